"""fsspec's store in memory represents S3 and GCS, whose drivers have the same interface."""

from pathlib import Path

import fsspec
import pytest

from pipeline.core.errors import UserError
from pipeline.params.text import DataParams
from pipeline.sources import remote
from pipeline.sources.finding import find_files
from pipeline.sources.reading import open_documents
from pipeline.sources.remote import fetch


@pytest.fixture
def store():
    store = fsspec.filesystem("memory")
    for name, content in {"a.txt": b"ay", "deep/b.txt": b"bee", "notes.md": b"no"}.items():
        store.pipe(f"/bucket/texts/{name}", content)
    yield store
    store.rm("/bucket", recursive=True)


def got(cache, address, **options):
    return {name: path.read_bytes() for name, path in fetch(address, cache=cache, **{"limit": 1000} | options)}


def test_a_file_a_folder_and_a_glob(store, tmp_path):
    assert got(tmp_path, "memory://bucket/texts/a.txt") == {"a.txt": b"ay"}
    assert got(tmp_path, "memory://bucket/texts") == {"a.txt": b"ay", "deep/b.txt": b"bee"}
    assert got(tmp_path, "memory://bucket/texts/*.md") == {"notes.md": b"no"}
    assert got(tmp_path, "memory://bucket/**/b.txt") == {"texts/deep/b.txt": b"bee"}


def test_a_file_is_copied_once_and_again_when_it_changes(store, tmp_path):
    seen = []
    for _ in range(2):
        got(tmp_path, "memory://bucket/texts/a.txt", progress=seen.append)
    assert sum(seen) == 2
    store.pipe("/bucket/texts/a.txt", b"oh")
    assert got(tmp_path, "memory://bucket/texts/a.txt", progress=seen.append) == {"a.txt": b"oh"}
    assert sum(seen) == 4


def test_copies_are_used_when_the_store_is_unreachable(store, tmp_path, monkeypatch):
    found = got(tmp_path, "memory://bucket/texts")

    def unreachable(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(remote, "url_to_fs", unreachable)
    assert got(tmp_path, "memory://bucket/texts") == found
    with pytest.raises(UserError, match="memory://bucket/other: cannot be fetched: OSError: no route to host"):
        got(tmp_path, "memory://bucket/other")
    (listing,) = tmp_path.glob("*.listing.json")
    listing.write_text("{")
    with pytest.raises(UserError, match="memory://bucket/texts: cannot be fetched: OSError: no route to host"):
        got(tmp_path, "memory://bucket/texts")


def test_an_interrupted_copy_leaves_nothing(store, tmp_path, monkeypatch):
    def broken(self, path, target, **_):
        Path(target).write_bytes(b"a")
        raise OSError("broken")

    monkeypatch.setattr(type(store), "get_file", broken)
    with pytest.raises(UserError, match="cannot be fetched: OSError: broken"):
        got(tmp_path, "memory://bucket/texts/a.txt")
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("memory://bucket/gone.txt", "memory://bucket/gone.txt: no such file or folder"),
        ("memory://bucket/gone/*.txt", "memory://bucket/gone/\\*.txt: no files match"),
        ("memory://bucket/texts/*.txt::x", "a chain of addresses"),
        ("simplecache::s3://bucket/a.txt", "a chain of addresses"),
        ("file:///a.txt", "allowed is its path, without file://"),
        ("what://user:word@bucket/a.txt?key=secret", "what://bucket/a.txt: unknown kind of address"),
    ],
)
def test_addresses_that_cannot_be_fetched_are_reported(store, tmp_path, address, message):
    with pytest.raises(UserError, match=f"^data.source: .*{message}"):
        got(tmp_path, address)


def test_a_missing_driver_is_named(tmp_path, monkeypatch):
    def missing(*_, **__):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(remote, "url_to_fs", missing)
    with pytest.raises(UserError, match=r"s3://b/a.txt: Install s3fs to access S3; `pip install 'charlm\[cloud\]'`"):
        got(tmp_path, "s3://b/a.txt")


def test_more_than_allowed_is_refused(store, tmp_path):
    with pytest.raises(UserError, match=r"^data.max_gb: memory://bucket/texts is larger"):
        got(tmp_path, "memory://bucket/texts", limit=4)


def test_a_source_may_be_in_a_store(store, tmp_path):
    params = DataParams(source="memory://bucket/texts")
    assert [file.name for file in find_files(params, root=tmp_path, cache=tmp_path)] == ["a.txt", "deep/b.txt"]
    (batch,) = open_documents(params, root=tmp_path, cache=tmp_path / "state/downloads")
    assert batch.column("text").to_pylist() == ["ay", "bee"]

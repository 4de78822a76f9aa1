"""Which files a source names, and how they are checked and described."""

import gzip
import hashlib
import json
import os
import time
import zipfile

import pyarrow as pa
import pytest

from pipeline.core.errors import UserError
from pipeline.params.text import DataParams
from pipeline.sources import describe as describe_module
from pipeline.sources.describe import describe
from pipeline.sources.files import SourceFile
from pipeline.sources.finding import find_files


def names(root, source):
    return [file.name for file in find_files(DataParams(source=source), root=root, cache=root / "cache")]


def described(root, source="text.txt", **params):
    return describe(DataParams(source=source, **params), root=root, cache=root / "state/downloads")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "texts/deep").mkdir(parents=True)
    (tmp_path / "texts/b.txt").write_text("bee")
    (tmp_path / "texts/a.txt").write_text("ay")
    (tmp_path / "texts/deep/c.txt.gz").write_bytes(gzip.compress(b"sea"))
    (tmp_path / "texts/notes.md").write_text("no")
    (tmp_path / "texts/.hidden.txt").write_text("no")
    return tmp_path


def test_a_file_a_folder_and_a_glob(folder):
    assert names(folder, "texts/a.txt") == ["a.txt"]
    assert names(folder, str(folder / "texts/a.txt")) == ["a.txt"]
    assert names(folder, "texts") == ["a.txt", "b.txt", "deep/c.txt.gz"]
    assert names(folder, "texts/*.md") == ["texts/notes.md"]


def test_a_zip_is_read_like_a_folder(folder):
    with zipfile.ZipFile(folder / "texts.zip", "w") as archive:
        archive.writestr("one/b.txt", "bee")
        archive.writestr("one/a.txt", "ay")
        archive.writestr("README.md", "no")
        archive.writestr("__MACOSX/one/._a.txt", b"\0junk")
    assert names(folder, "texts.zip") == ["texts.zip/one/a.txt", "texts.zip/one/b.txt"]
    with zipfile.ZipFile(folder / "notes.zip", "w") as archive:
        archive.writestr("a.md", "ay")
    assert names(folder, "notes.zip") == ["notes.zip/a.md"]


@pytest.mark.parametrize(
    ("name", "kind", "packing"),
    [
        ("a.txt", "text", None),
        ("a", "text", None),
        ("a.md.gz", "text", "gzip"),
        ("A.CSV", "csv", None),
        ("a.tsv.zst", "tsv", "zstd"),
        ("x.zip/a.ndjson.gz", "jsonl", "gzip"),
        ("a.parquet", "parquet", None),
    ],
)
def test_endings_say_what_a_file_contains(tmp_path, name, kind, packing):
    file = SourceFile(name, tmp_path)
    assert (file.kind, file.packing) == (kind, packing)


@pytest.mark.parametrize("source", ["gone.txt", "gone/*.txt", "empty"])
def test_a_missing_source_is_reported(tmp_path, source):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"^data.source: "):
        names(tmp_path, source)


def test_text_and_tables_are_not_mixed(folder):
    (folder / "texts/t.csv").write_text("text\nx\n")
    with pytest.raises(UserError, match=r"texts: contains text \(a.txt\) and tables \(t.csv\)"):
        described(folder, "texts")
    assert described(folder, "texts/*.csv")


def test_damage_is_reported(tmp_path):
    (tmp_path / "bad.zip").write_bytes(b"no zip")
    with pytest.raises(UserError, match=r"bad.zip: cannot be read: File is not a zip file"):
        names(tmp_path, "bad.zip")
    for name, content in (
        ("cut.txt.gz", gzip.compress(os.urandom(5000))[:-9]),
        ("no.txt.gz", b"no gzip"),
        ("cut.txt.zst", pa.compress(os.urandom(5000), codec="zstd", asbytes=True)[:-9]),
        ("no.parquet", b"no parquet"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=rf"{name}: (cannot be read|no readable Parquet|a binary|invalid)"):
            described(tmp_path, name)
    (tmp_path / "locked.txt").symlink_to(tmp_path / "gone")
    with pytest.raises(UserError, match="no such file"):
        described(tmp_path, "locked.txt")


def test_a_description_has_sizes_and_hashes_but_no_paths(folder):
    found = described(folder, str(folder / "texts"))
    assert found["files"][0] == {"name": "a.txt", "bytes": 2, "sha256": hashlib.sha256(b"ay").hexdigest()}
    packed = (folder / "texts/deep/c.txt.gz").read_bytes()
    assert found["files"][2]["sha256"] == hashlib.sha256(packed).hexdigest()
    assert str(folder) not in str(found)


def test_a_guessed_encoding_is_described(tmp_path):
    (tmp_path / "text.txt").write_bytes("Широка страна моя родная, много в ней лесов.\n".encode("cp1251") * 30)
    assert described(tmp_path, encoding="auto")["files"][0]["encoding"] == "cp1251"


@pytest.mark.parametrize("content", [b"", gzip.compress(b"")[:0]])
def test_an_empty_source_is_refused(tmp_path, content):
    (tmp_path / "text.txt").write_bytes(content)
    with pytest.raises(UserError, match="empty"):
        described(tmp_path)


def test_invalid_text_is_refused(tmp_path):
    (tmp_path / "text.txt").write_bytes(b"abc\xff")
    with pytest.raises(UserError, match="invalid utf-8 at byte 3"):
        described(tmp_path)


def test_more_than_allowed_is_refused_even_if_it_is_small_when_packed(tmp_path):
    (tmp_path / "text.txt").write_bytes(b"x" * 3000)
    (tmp_path / "packed.txt.gz").write_bytes(gzip.compress(b"x" * 3000))
    with zipfile.ZipFile(tmp_path / "packed.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", b"x" * 1500)
        archive.writestr("b.txt", b"x" * 1500)
    for source in ("text.txt", "packed.txt.gz", "packed.zip"):
        assert described(tmp_path, source, max_gb=3e-6)
        with pytest.raises(UserError, match=r"^data.max_gb: the source has more than 2e-06 GB, unpacked"):
            described(tmp_path, source, max_gb=2e-6)


def test_sha256_is_checked(folder):
    right = hashlib.sha256(b"ay").hexdigest()
    assert described(folder, "texts/a.txt", sha256=right)
    with pytest.raises(UserError, match=r"^data.sha256: .*allowed is 0000"):
        described(folder, "texts/a.txt", sha256="0" * 64)
    with pytest.raises(UserError, match="3 files"):
        described(folder, "texts", sha256=right)


def test_only_tables_have_columns(folder):
    with pytest.raises(UserError, match=r"^data.metadata: found year, allowed is none: only tables"):
        described(folder, "texts", metadata=("year",))
    with pytest.raises(UserError, match=r"^data.id_column: found 'id'"):
        described(folder, "texts", id_column="id")


def test_sotu_has_its_own_columns(tmp_path):
    assert described(tmp_path, "sotu", metadata=("year",))["source"] == "sotu"
    with pytest.raises(UserError, match=r"^data.metadata: found 'mood', allowed for sotu are year, date"):
        described(tmp_path, "sotu", metadata=("mood",))


class TestFileCache:
    @pytest.fixture
    def text(self, tmp_path):
        path = tmp_path / "text.txt"
        path.write_text("abc")
        past = time.time() - 10
        os.utime(path, (past, past))
        return path

    def read_by(self, root, **params):
        seen = []
        describe(
            DataParams(source="text.txt", **params), root=root, cache=root / "state/downloads", progress=seen.append
        )
        return sum(seen)

    def test_an_unchanged_file_is_not_read_again(self, text):
        assert [self.read_by(text.parent) for _ in range(3)] == [3, 0, 0]
        assert self.read_by(text.parent, encoding="latin-1") == 3

    def test_a_changed_file_is_read_again(self, text):
        self.read_by(text.parent)
        status = text.stat()
        text.write_text("abd")
        os.utime(text, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
        assert self.read_by(text.parent) == 3

    def test_a_file_that_was_just_written_is_read_again(self, text):
        text.touch()
        assert [self.read_by(text.parent) for _ in range(2)] == [3, 3]

    def test_a_damaged_cache_is_ignored(self, text):
        self.read_by(text.parent)
        (cached,) = (text.parent / "state/described").iterdir()
        wrong_type = cached.read_text().replace('"unpacked": 3', '"unpacked": "3"')
        for content in ("{", "[]", wrong_type):
            cached.write_text(content)
            assert self.read_by(text.parent) == 3
        known = json.loads(cached.read_text().partition("\n")[2])
        assert [entry["found"]["entry"]["bytes"] for entry in known.values()] == [3]

    def test_the_limit_applies_to_cached_results(self, text):
        self.read_by(text.parent)
        with pytest.raises(UserError, match=r"^data.max_gb: "):
            self.read_by(text.parent, max_gb=2e-9)

    def test_a_new_version_of_the_checks_ignores_the_cache(self, text, monkeypatch):
        self.read_by(text.parent)
        monkeypatch.setattr(describe_module, "VERSION", describe_module.VERSION + 1)
        assert self.read_by(text.parent) == 3

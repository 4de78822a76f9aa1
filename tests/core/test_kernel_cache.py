import hashlib

import numpy as np
import pytest

from pipeline.core import kernel_cache
from pipeline.core.kernel_cache import CheckedFiles, kernel


def test_machine_code_is_invalidated_by_a_change_of_the_file_or_of_its_imports(tmp_path, monkeypatch):
    monkeypatch.setattr(kernel_cache, "ROOT", tmp_path)
    sources = {
        "a": "import numpy\nfrom pipeline.b import f",
        "b": "from pipeline.c.kernels import d\nfrom pipeline.a import g",
        "c/kernels/d": "",
        "other": "",
    }
    for name, source in sources.items():
        path = tmp_path / f"pipeline/{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)

    def source_hash():
        kernel_cache.source_hash.cache_clear()
        kernel_cache._imports.cache_clear()
        return kernel_cache.source_hash(tmp_path / "pipeline/a.py")

    before = source_hash()
    for name, matters in (("a", True), ("b", True), ("c/kernels/d", True), ("other", False)):
        path = tmp_path / f"pipeline/{name}.py"
        path.write_text(f"{sources[name]}\n# changed")
        assert (source_hash() != before) == matters
        path.write_text(sources[name])
    assert source_hash() == before
    kernel_cache.source_hash.cache_clear()


def triple(numbers):
    return numbers * 3


def cached(folder):
    return list(folder.rglob("*.kernel"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CHARLM_CACHE_DIR", str(tmp_path))
    return tmp_path


def test_machine_code_is_loaded_from_the_cache_unless_it_is_damaged(folder):
    assert kernel(triple)(np.arange(3)).tolist() == [0, 3, 6]
    (file,) = cached(folder)
    whole = file.read_bytes()
    again = kernel(triple)
    assert again(np.arange(3)).tolist() == [0, 3, 6]
    assert (sum(again.stats.cache_hits.values()), sum(again.stats.cache_misses.values())) == (1, 0)
    file.write_bytes(whole[: len(whole) // 2])
    again = kernel(triple)
    assert again(np.arange(3)).tolist() == [0, 3, 6]
    assert (sum(again.stats.cache_hits.values()), sum(again.stats.cache_misses.values())) == (0, 1)
    assert hashlib.sha256(file.read_bytes()[32:]).digest() == file.read_bytes()[:32]


def test_cached_machine_code_is_loaded_without_what_a_compilation_needs(folder, monkeypatch):
    kernel(triple)(np.arange(3))
    again = kernel(triple)

    def refresh(_):
        raise AssertionError

    monkeypatch.setattr(type(again.targetctx), "refresh", refresh)
    assert again(np.arange(3)).tolist() == [0, 3, 6]
    with pytest.raises(AssertionError):
        again(np.arange(3.0))  # types that are not cached


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:20],
        lambda content: content[:-1],
        lambda content: bytes(len(content)),
        lambda content: content[:40] + bytes([content[40] ^ 1]) + content[41:],
    ],
)
def test_a_damaged_file_counts_as_missing(tmp_path, damage):
    files = CheckedFiles(tmp_path, "name")
    assert files.load("key") is None
    files.save("key", {"code": b"x" * 100})
    assert files.load("key") == {"code": b"x" * 100}
    assert files.load("other") is None
    (path,) = cached(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    assert files.load("key") is None


def test_a_cache_that_cannot_be_written_or_read_costs_only_time(tmp_path):
    files = CheckedFiles(tmp_path / "file", "name")
    (tmp_path / "file").write_text("")
    files.save("key", 1)
    assert files.load("key") is None


def test_a_folder_that_others_can_write_to_is_not_used(folder):
    kernel(triple)
    (own,) = folder.iterdir()
    own.chmod(0o777)
    assert kernel(triple)(np.arange(2)).tolist() == [0, 3]
    assert not cached(folder)

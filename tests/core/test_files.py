import errno
import os
import sqlite3
import subprocess
import sys
from typing import Annotated, NotRequired

import pytest
from pydantic import Field
from typing_extensions import TypedDict

from pipeline.core.errors import DiskError, UserError, disk_problem
from pipeline.core.files import (
    cached,
    read_checked,
    read_json,
    remove_leftovers,
    sha256_of,
    whole_file,
    whole_folder,
    write_json,
)
from pipeline.core.reproducible import derive_seed


def test_a_file_is_replaced_completely_or_not_at_all(tmp_path):
    path = tmp_path / "new/file"
    with whole_file(path) as temporary:
        temporary.write_text("one")
    with pytest.raises(RuntimeError), whole_file(path) as temporary:
        temporary.write_text("two")
        raise RuntimeError
    assert path.read_text() == "one"
    assert [inner.name for inner in path.parent.iterdir()] == ["file"]


def test_a_folder_is_replaced_completely_or_not_at_all(tmp_path):
    path = tmp_path / "folder"
    with whole_folder(path) as temporary:
        (temporary / "a").write_text("one")
    with pytest.raises(RuntimeError), whole_folder(path) as temporary:
        (temporary / "b").write_text("two")
        raise RuntimeError
    assert [inner.name for inner in tmp_path.rglob("*")] == ["folder", "a"]
    with whole_folder(path) as temporary:
        (temporary / "c").write_text("three")
    assert [inner.name for inner in path.iterdir()] == ["c"]


def test_only_temporary_files_of_killed_processes_are_removed(tmp_path):
    killed = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    dead, alive = int(killed.stdout), os.getppid()
    for pid in (dead, alive):
        (tmp_path / f".file.{pid}.part").write_text("half")
        (tmp_path / f".folder.{pid}.part").mkdir()
        (tmp_path / f".folder.{pid}.part.common").mkdir()
        (tmp_path / f".folder.{pid}.part/a").write_text("half")
        (tmp_path / f".folder.{pid}.old").mkdir()
    (tmp_path / f".other.{dead}.part").write_text("another file's")
    (tmp_path / ".file.notes.part").write_text("somebody's own")
    with whole_file(tmp_path / "file") as temporary:
        temporary.write_text("whole")
    with whole_folder(tmp_path / "folder") as temporary:
        (temporary / "a").write_text("whole")
    assert {path.name for path in tmp_path.iterdir()} == {
        "file",
        "folder",
        ".file.notes.part",
        f".other.{dead}.part",
        f".file.{alive}.part",
        f".folder.{alive}.part",
        f".folder.{alive}.part.common",
        f".folder.{alive}.old",
    }


def test_json_and_hashes(tmp_path):
    write_json(tmp_path / "x.json", {"b": 1, "a": "é"})
    assert (tmp_path / "x.json").read_text() == '{\n  "b": 1,\n  "a": "é"\n}\n'
    assert read_json(tmp_path / "x.json") == {"b": 1, "a": "é"}
    (tmp_path / "y").write_bytes(b"abc")
    assert sha256_of(tmp_path / "y").startswith("ba7816bf")


def test_seeds_never_change():
    # These numbers are part of every published figure: a change of the rule would change them all.
    assert derive_seed(7, "weights") == 6795307509797646295
    assert derive_seed(7, "epoch", 1) != derive_seed(7, "epoch", 2) != derive_seed(8, "epoch", 2)
    assert 0 <= derive_seed(0, "x") < 2**63


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full (4 bytes of it were written, "),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk quota is used up (4 bytes"),
        (OSError(errno.EFBIG, "File too large"), "the file is larger than this process may write"),
        (OSError(errno.EROFS, "Read-only file system"), "the disk is read-only"),
        (
            RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
            "the disk is full (",
        ),
        (OSError("1000 requested and 12 written"), "the disk is full, or cannot be written"),
    ],
)
def test_an_error_of_the_disk_names_the_file_and_leaves_the_old_one(tmp_path, error, words):
    for path, whole in ((tmp_path / "file", whole_file), (tmp_path / "folder", whole_folder)):
        with whole(path) as temporary:
            target = temporary if whole is whole_file else temporary / "inner"
            target.write_text("old")
        with pytest.raises(DiskError) as raised, whole(path) as temporary:
            target = temporary if whole is whole_file else temporary / "inner"
            target.write_text("half")
            raise error
        assert str(raised.value).startswith(f"{path}: {words}")
        assert "\n" not in str(raised.value)
        old = path if path.is_file() else path / "inner"
        assert old.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_file_in_a_folder_is_named_by_its_final_path(tmp_path):
    with pytest.raises(DiskError) as raised, whole_folder(tmp_path / "a") as folder, whole_file(folder / "b"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert str(raised.value).startswith(f"{tmp_path}/a/b: the disk is full")


def test_denied_access_to_what_is_read_is_not_an_error_of_what_is_written(tmp_path):
    with pytest.raises(PermissionError), whole_file(tmp_path / "copy"):
        raise PermissionError(errno.EACCES, "Forbidden", "s3://bucket/a")


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (OSError(errno.EACCES, "Permission denied", "/project/metrics/a.json"), "metrics/a.json: access is denied"),
        (sqlite3.OperationalError("database or disk is full"), "the disk is full"),
        (sqlite3.OperationalError("attempt to write a readonly database"), "access is denied"),
        (FileNotFoundError(errno.ENOENT, "No such file"), None),
        (ValueError("wrong"), None),
    ],
)
def test_the_cause_of_an_error_is_found_behind_a_librarys_error(error, problem):
    assert disk_problem(error, folder="/project") == problem
    wrapped = RuntimeError("a library's error")
    wrapped.__cause__ = error
    assert disk_problem(wrapped, folder="/project") == problem


class Figures(TypedDict):
    perplexity: Annotated[float, Field(allow_inf_nan=False)]
    text: NotRequired[str]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        ("", "Invalid JSON"),
        ("[" * 100_000, "recursion limit"),
        ('{"perplexity": 1.5, "text": "\\ud800"}', "Invalid JSON"),
        ('{"perplexity": NaN}', "perplexity: Input should be a finite number"),
        ('{"perplexity": "1.5"}', "perplexity: Input should be a valid number"),
        ('{"perplexity": true}', "perplexity: Input should be a valid number"),
        ('{"text": "x"}', "perplexity: Field required"),
        ("[]", "should be an object"),
    ],
)
def test_json_of_another_kind_is_refused_with_one_line(tmp_path, content, message):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message) as refused:
        read_checked(path, Figures)
    assert "a.json: missing or damaged: " in str(refused.value)
    assert "\n" not in str(refused.value)


def test_json_may_have_more_keys(tmp_path):
    write_json(tmp_path / "a.json", {"perplexity": 2, "more": [1]})
    assert read_checked(tmp_path / "a.json", Figures) == {"perplexity": 2, "more": [1]}


@pytest.mark.parametrize("content", ["[" * 100_000, '["\\ud800"]', '{"\\uD800": 1}'])
def test_json_that_could_not_be_written_again_is_a_value_error(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError, match=r"nested too deeply|surrogates"):
        read_json(tmp_path / "a.json")


def test_leftovers_of_all_names_in_a_folder_are_removed(tmp_path):
    killed = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    for name in (f".split.{int(killed.stdout)}.part", f".a.b.{int(killed.stdout)}.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").write_text("half")
    kept = {f".split.{os.getpid()}.part", ".file.notes.part", "split.7.part"}
    for name in kept:
        (tmp_path / name).write_text("somebody's")
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_what_is_cached_is_made_once_and_again_if_it_is_damaged(tmp_path):
    path, made = tmp_path / "cache/script.js", []

    def make():
        made.append(1)
        return b"content"

    assert cached(path, make) == cached(path, make) == b"content"
    assert len(made) == 1
    assert path.parent.stat().st_mode & 0o077 == 0
    for damaged in (path.read_bytes()[:-1], b"", path.read_bytes().replace(b"content", b"another")):
        path.write_bytes(damaged)
        assert cached(path, make) == b"content"
    assert len(made) == 4


def test_a_cache_that_others_can_write_to_is_not_used(tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)
    assert cached(tmp_path / "cache/script.js", lambda: b"content") == b"content"
    assert not list((tmp_path / "cache").iterdir())

"""Unusual sources: each is refused with a one-line message before the pipeline starts, or read as intended."""

import json
import os
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.core.errors import UserError
from pipeline.params.text import DataParams
from pipeline.sources import files as files_module
from pipeline.sources import typed_rows
from pipeline.sources.describe import describe
from pipeline.sources.finding import find_files, redacted
from pipeline.sources.reading import open_documents
from pipeline.sources.typed_rows import DEEPEST


def described(root, source, **params):
    return describe(DataParams(source=source, **params), root=root, cache=root / "state/downloads")


def read(root, source, **params):
    documents = open_documents(DataParams(source=source, **params), root=root, cache=root / "state/downloads")
    return [row for batch in documents for row in batch.to_pylist()]


@pytest.mark.parametrize(
    ("name", "content", "params", "message"),
    [
        # Arrow's parser would crash the interpreter.
        ("a.jsonl", b'null\n{"text": "b"}\n', {}, "a.jsonl: a line that is not an object in row 1"),
        ("a.jsonl", b'\n ["text"]\n', {}, "a.jsonl: a line that is not an object in row 1"),
        (
            "a.jsonl",
            b'{"text": "b"}\n{"text": "' + b"[" * 9999 + b'", "x": ' + b"[" * 300_000,
            {},
            f"a.jsonl: more than {DEEPEST} nested brackets in row 2",
        ),
        ("a.jsonl", b'{"text": "b"}\n' + b'{"x":' * 20_000, {}, "nested brackets in row 2"),
        (
            "a.jsonl",
            b'{"text": "b", "id": {"$oid": 1}}\n',
            {"id_column": "id"},
            "data.id_column: 'id' of a.jsonl has type struct",
        ),
        ("a.jsonl", b'{"text": "a\\u0000b"}\n', {}, "NUL in the text of row 1"),
        ("a.csv", b"text," + b"x" * 200_000 + b"\nhello,1\n", {}, "a.csv: no readable header"),
        ("a.csv", b'"text,year\n' + b"a,1\n" * 50_000, {}, "a.csv: no readable header"),
        (
            "a.txt",
            "hello".encode("utf-16-le"),
            {"encoding": "utf-16"},
            "data.encoding: found utf-16, but a.txt: UTF-16 stream does not start with BOM",
        ),
        (
            "a.txt",
            "hello".encode("utf-32-le"),
            {"encoding": "utf-32", "errors": "replace"},
            "data.encoding: found utf-32",
        ),
    ],
)
def test_a_bad_source_is_refused_with_one_line(tmp_path, name, content, params, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as refused:
        described(tmp_path, name, **params)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_brackets_in_strings_and_on_several_lines_are_not_nested(tmp_path):
    texts = ["[" * 1000, '"' + "{" * 1000 + "\\", "c"]
    lines = [json.dumps({"text": text, "x": [[1]]}) for text in texts]
    (tmp_path / "a.jsonl").write_text("\n".join(lines * 300))
    assert [row["text"] for row in read(tmp_path, "a.jsonl")] == texts * 300


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([b"\xff", b"a"]), "data.id_column: 'id' of a.parquet has type binary"),
        (pa.array([[1], [2]]), "data.id_column: 'id' of a.parquet has type list"),
        (
            pa.StringArray.from_buffers(2, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"\xffa")),
            "a.parquet: no readable Parquet: ",
        ),
    ],
)
def test_document_names_that_are_not_text_are_refused_in_parquet(tmp_path, column, message):
    pq.write_table(pa.table({"id": column, "text": ["one", "two"]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=message):
        described(tmp_path, "a.parquet", id_column="id")


def test_numbers_larger_than_int64_become_doubles(tmp_path):
    table = {"text": ["one", "two"], "hash": pa.array([2**64 - 1, 7], pa.uint64())}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    assert [row["hash"] for row in read(tmp_path, "a.parquet", metadata=("hash",))] == [2.0**64, 7.0]


def test_a_small_parquet_file_with_large_texts_is_read_in_small_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(typed_rows, "BLOCK_BYTES", 100_000)
    text = "ab" * 20_000
    table = {"text": [text, None] * 200, "other": [text] * 400}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 30_000
    params = DataParams(source="a.parquet", metadata=("other",), max_gb=0.1)
    documents = open_documents(params, root=tmp_path, cache=tmp_path / "state/downloads")
    with (tmp_path / "a.parquet").open("rb") as stream:
        blocks = list(typed_rows.parquet_blocks(stream, "a", typed_rows.ColumnSelection.by(params), lambda _: None))
    assert max(block.nbytes for block in blocks) < 150_000
    assert [row["text"] for batch in documents for row in batch.to_pylist()] == [text] * 200
    with pytest.raises(UserError, match=r"data.max_gb: the source has more than 0.005 GB"):
        described(tmp_path, "a.parquet", max_gb=0.005)


def test_only_the_text_of_parquet_counts_towards_the_limit(tmp_path):
    table = pa.table({"text": [f"{number:0100}" for number in range(10_000)]})
    pq.write_table(table, tmp_path / "a.parquet", compression="none", use_dictionary=False)
    assert described(tmp_path, "a.parquet", max_gb=0.0012)
    with pytest.raises(UserError, match=r"data.max_gb"):
        described(tmp_path, "a.parquet", max_gb=0.0009)


def test_hidden_folders_are_left_out(tmp_path):
    for name in (".git/a.txt", "b/.cache/a.txt", "b/c.txt"):
        (tmp_path / "texts" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "texts" / name).write_text("text")
    with zipfile.ZipFile(tmp_path / "texts.zip", "w") as archive:
        for name in (".git/a.txt", "b/c.txt"):
            archive.writestr(name, "text")
    for source, name in (("texts", "b/c.txt"), ("texts.zip", "texts.zip/b/c.txt")):
        assert [file.name for file in find_files(DataParams(source=source), root=tmp_path, cache=tmp_path)] == [name]


def test_file_names_that_are_not_utf8_are_escaped(tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / os.fsdecode(b"caf\xe9.txt")).write_text("text")
    assert [row["document"] for row in read(tmp_path, "texts")] == ["caf\\xe9.txt"]
    assert [row["document"] for row in read(tmp_path, "texts/*.txt")] == ["texts/caf\\xe9.txt"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_with_two_files_of_one_name_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.txt", "one")
        archive.writestr("a.txt", "two")
    with pytest.raises(UserError, match=r"data.source: a.zip: contains two files 'a.txt'; allowed are distinct names"):
        described(tmp_path, "a.zip")


def test_the_members_of_a_zip_are_listed_once_and_again_when_it_changes(tmp_path, monkeypatch):
    opened = []
    real = zipfile.ZipFile
    monkeypatch.setattr(
        files_module.zipfile, "ZipFile", lambda *given, **more: opened.append(1) or real(*given, **more)
    )
    for round_, size in enumerate((1, 2), start=1):
        with real(tmp_path / "a.zip", "w") as archive:
            for number in range(50):
                archive.writestr(f"{number:02}.txt", "text" * size)
        assert [row["text"] for row in read(tmp_path, "a.zip")] == ["text" * size] * 50
        assert len(opened) <= 4 * round_


def test_addresses_are_printed_without_login():
    assert redacted("s3://user:p@ss@host/x@y?token=1") == "s3://host/x@y"

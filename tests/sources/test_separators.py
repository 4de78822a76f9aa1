"""Which separator a CSV file has: found from its header, whatever its cells hold."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.params.text import DataParams
from pipeline.sources import csv_rows
from pipeline.sources.columns import ColumnSelection
from pipeline.sources.csv_rows import SEPARATORS, csv_blocks, find_separator
from pipeline.sources.describe import describe
from pipeline.sources.reading import open_documents

CELLS = st.text('a,;|\t" \né', max_size=12)
OTHER_COLUMNS = st.lists(st.text("xyz,;| ", min_size=1, max_size=6), max_size=4)
WANTED = ColumnSelection("text", None, ())


def written(header, rows, separator):
    file = io.StringIO()
    csv.writer(file, delimiter=separator, lineterminator="\n").writerows([header, *rows])
    return file.getvalue()


@given(st.sampled_from(list(SEPARATORS)), st.sampled_from([",", "\t"]), OTHER_COLUMNS, st.data())
def test_the_texts_are_read_whatever_separates_them(separator, usual, others, data):
    header = [*others, "text", "last column"]
    rows = data.draw(st.lists(st.lists(CELLS, min_size=len(header), max_size=len(header)), min_size=1, max_size=5))
    content = written(header, rows, separator)
    size = data.draw(st.integers(1, len(content)))

    def text():
        return (content[at : at + size].encode() for at in range(0, len(content), size))

    assert find_separator(text(), "t.csv", WANTED, usual=usual) == separator
    blocks = list(csv_blocks(text, "t.csv", WANTED, usual=usual))
    found = [value or "" for block in blocks for value in block.column("text").to_pylist()]
    assert found == [row[len(others)] for row in rows]


@pytest.mark.parametrize(
    ("header", "usual", "separator"),
    [
        ("text", ",", ","),
        ("text;id", ",", ";"),
        ("id\ttext", ",", "\t"),
        ("id|text", "\t", "|"),
        ("id,text", "\t", ","),
        ('"a;b",text', ",", ","),
        ('"name, first";text;"1,2,3,4"', ",", ";"),
        ("text,a;b;c;d;e", ",", ","),  # the wanted column is there under a comma
        ("a;b;c,d", ",", ";"),  # no column text: the one that makes the most columns
        ("a;b,c", ",", ","),
        ("", ",", ","),
    ],
)
def test_the_header_decides(header, usual, separator):
    assert find_separator(iter([f"{header}\nx\n".encode()]), "t.csv", WANTED, usual=usual) == separator


def test_only_the_start_of_a_file_is_read(monkeypatch):
    monkeypatch.setattr(csv_rows, "BLOCK_BYTES", (100, 200, 300))
    read = []

    def endless(chunk):
        while True:
            read.append(chunk)
            yield chunk

    assert find_separator(endless(b"id;text\nsome;words\n"), "t.csv", WANTED, usual=",") == ";"
    assert len(read) == 1
    find_separator(endless(b"a header without end;"), "t.csv", WANTED, usual=",")
    assert len(read) == 1 + 5


def test_a_separator_that_is_not_the_usual_one_is_described(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/one.csv").write_text('id;text\n1;"a; b"\n2;c, d\n')
    (tmp_path / "a/two.csv").write_text("id,text\n1,e\n")
    (tmp_path / "a/three.tsv").write_text("id|text\n1|f\n")
    params = DataParams(source="a")
    entries = {
        one["name"]: one.get("separator")
        for one in describe(params, root=tmp_path, cache=tmp_path / "state/downloads")["files"]
    }
    assert entries == {"one.csv": ";", "three.tsv": "|", "two.csv": None}
    batches = open_documents(params, root=tmp_path, cache=tmp_path / "state/downloads")
    assert [text for batch in batches for text in batch.column("text").to_pylist()] == ["a; b", "c, d", "f", "e"]

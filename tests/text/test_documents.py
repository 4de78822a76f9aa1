import unicodedata

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tables import tables

from pipeline.core.errors import UserError
from pipeline.core.files import sha256_of
from pipeline.text.documents import cut_pieces, rows_of, schema_of
from pipeline.text.shards import read_batches, schema_in, shard_writer, shards_in, text_bytes
from pipeline.text.text_hashes import SeenTexts, joined, polynomials

TEXT = st.text(st.sampled_from("ab \n\u0301가\u1100\u1161世é"), max_size=80)


@given(st.lists(TEXT, max_size=4), st.integers(4, 20))
def test_pieces_are_the_text_and_none_is_too_long(chunks, most):
    pieces = list(cut_pieces([chunk.encode() for chunk in chunks], most))
    assert b"".join(pieces).decode() == "".join(piece.decode() for piece in pieces) == "".join(chunks)
    assert all(0 < len(piece) <= most for piece in pieces)


@given(TEXT)
def test_normal_forms_do_not_look_over_a_cut(text):
    pieces = [piece.decode() for piece in cut_pieces([text.encode()], 30)]
    for form in ("NFC", "NFKC"):
        if all(piece[0].isalnum() for piece in pieces[1:]):  # else there was no place to cut at
            assert "".join(unicodedata.normalize(form, piece) for piece in pieces) == unicodedata.normalize(form, text)


def test_a_text_is_cut_before_a_word():
    def pieces(text, most):
        return [piece.decode() for piece in cut_pieces([text.encode()], most)]

    assert pieces("one two  three", 10) == ["one two  ", "three"]
    assert pieces("一二三四五", 7) == ["一二", "三四", "五"]
    assert pieces("…!?…!?", 9) == ["…!?…!", "?"]


def test_rows_of_a_document_know_their_place():
    rows = list(rows_of("a", [b"x" * 5], {"year": 1}))
    assert [(row.part, row.last, row.metadata) for row in rows] == [(0, True, {"year": 1})]
    assert [row.text for row in rows_of("empty", [])] == [b""]


def write(folder, batches):
    folder.mkdir()
    with shard_writer(folder, batches[0].schema.remove(batches[0].schema.get_field_index("chars"))) as writer:
        for batch in batches:
            writer.write(batch.drop_columns(["chars"]))
    return writer


def test_tables_survive_and_give_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.text.shards.SHARD_BYTES", 50)
    batches = list(tables("one é", "two" * 30, "three", "4" * 60, year=[1, 2, None, 4], at_once=2)())
    for name in ("a", "b"):
        writer = write(tmp_path / name, batches)
    assert (writer.documents, writer.characters) == (4, 5 + 90 + 5 + 60)
    assert [path.name for path in shards_in(tmp_path / "a")] == ["part-00000.parquet", "part-00001.parquet"]
    assert [sha256_of(path) for path in shards_in(tmp_path / "a")] == [
        sha256_of(path) for path in shards_in(tmp_path / "b")
    ]
    assert pa.Table.from_batches(read_batches(tmp_path / "a")).equals(pa.Table.from_batches(batches))
    assert schema_in(tmp_path / "a") == schema_of([("year", pa.int64())])
    # Each shard is a table of its own.
    assert pq.read_table(tmp_path / "a/part-00001.parquet").num_rows == 2


def test_what_was_written_since_a_mark_can_be_taken_back(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.text.shards.SHARD_BYTES", 50)
    first, second, third = (next(tables(text * 30)()) for text in ("one", "two", "three"))
    (tmp_path / "t").mkdir()
    with shard_writer(tmp_path / "t", schema_of()) as writer:
        writer.write(first.drop_columns(["chars"]))
        writer.mark()
        writer.write(second.drop_columns(["chars"]))
        writer.write(second.drop_columns(["chars"]))
        writer.take_back()
        writer.write(third.drop_columns(["chars"]))
    texts = [text for batch in read_batches(tmp_path / "t") for text in batch.column("text").to_pylist()]
    assert texts == ["one" * 30, "three" * 30]
    assert writer.documents == 2


def test_a_missing_or_damaged_table_is_told(tmp_path):
    with pytest.raises(UserError, match="no table of documents"):
        list(read_batches(tmp_path))
    (tmp_path / "part-00000.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(UserError, match=r"part-00000.parquet: damaged"):
        list(read_batches(tmp_path))


@given(st.text(), st.text())
def test_a_hash_can_go_on_from_that_of_a_first_part(one, two):
    a, b, both = (int(value) for value in polynomials(pa.array([one, two, one + two], pa.large_string())))
    assert joined(a, b, len(two.encode())) == both


def test_what_was_seen_is_known_also_when_the_set_has_grown():
    seen = SeenTexts()
    texts = pa.array([f"text {number}" for number in range(100_000)], pa.large_string())
    hashes = polynomials(texts)
    assert seen.add(hashes[:60_000]).all()
    assert seen.add(hashes).sum() == 40_000
    assert not seen.add(hashes).any()
    assert seen.add(polynomials(pa.array(["", "", "x"], pa.large_string()))).tolist() == [True, False, True]


def test_the_shards_of_a_very_large_table_are_in_order(tmp_path):
    for number in (100_000, 99_999, 7):
        (tmp_path / f"part-{number:05d}.parquet").touch()
    assert [path.name[5:-8] for path in shards_in(tmp_path)] == ["00007", "99999", "100000"]


@pytest.mark.parametrize("read", [schema_in, text_bytes, lambda folder: list(read_batches(folder))])
def test_a_damaged_shard_is_told(tmp_path, read):
    (tmp_path / "part-00000.parquet").write_bytes(b"PAR1 and then something else")
    with pytest.raises(UserError, match=r"part-00000.parquet: damaged: .*; `dvc checkout` brings it back"):
        read(tmp_path)

import unicodedata

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tables import tables

from pipeline.core.errors import UserError
from pipeline.core.files import sha256_of
from pipeline.text.documents import SeenTexts, cut_pieces, hash_texts, join_hashes, rows_of, schema_of
from pipeline.text.shards import read_batches, schema_in, shard_writer, shards_in, text_bytes

TEXT = st.text(st.sampled_from("ab \n\u0301가\u1100\u1161世é"), max_size=80)


@given(st.lists(TEXT, max_size=4), st.integers(4, 20))
def test_pieces_add_up_to_the_text_and_none_is_too_long(chunks, most):
    pieces = list(cut_pieces([chunk.encode() for chunk in chunks], most))
    assert b"".join(pieces).decode() == "".join(piece.decode() for piece in pieces) == "".join(chunks)
    assert all(0 < len(piece) <= most for piece in pieces)


@given(TEXT)
def test_normal_forms_do_not_depend_on_cuts(text):
    pieces = [piece.decode() for piece in cut_pieces([text.encode()], 30)]
    for form in ("NFC", "NFKC"):
        if all(piece[0].isalnum() for piece in pieces[1:]):  # otherwise there was no such place
            assert "".join(unicodedata.normalize(form, piece) for piece in pieces) == unicodedata.normalize(form, text)


def test_a_text_is_cut_before_a_word():
    def pieces(text, most):
        return [piece.decode() for piece in cut_pieces([text.encode()], most)]

    assert pieces("one two  three", 10) == ["one two  ", "three"]
    assert pieces("一二三四五", 7) == ["一二", "三四", "五"]
    assert pieces("…!?…!?", 9) == ["…!?…!", "?"]


def test_rows_of_a_document_are_numbered():
    rows = list(rows_of("a", [b"x" * 5], {"year": 1}))
    assert [(row.part, row.last, row.metadata) for row in rows] == [(0, True, {"year": 1})]
    assert [row.text for row in rows_of("empty", [])] == [b""]


def write(folder, batches):
    folder.mkdir()
    with shard_writer(folder, batches[0].schema.remove(batches[0].schema.get_field_index("chars"))) as writer:
        for batch in batches:
            writer.write(batch.drop_columns(["chars"]))
    return writer


def test_tables_are_read_as_written_and_give_the_same_bytes(tmp_path, monkeypatch):
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
    # Each shard is a complete table.
    assert pq.read_table(tmp_path / "a/part-00001.parquet").num_rows == 2


def test_everything_written_since_a_mark_can_be_taken_back(tmp_path, monkeypatch):
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


def test_a_missing_or_damaged_table_is_reported(tmp_path):
    with pytest.raises(UserError, match="no documents table"):
        list(read_batches(tmp_path))
    (tmp_path / "part-00000.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(UserError, match=r"part-00000.parquet: damaged"):
        list(read_batches(tmp_path))


@given(st.text(), st.text())
def test_the_hash_of_a_text_follows_from_those_of_its_parts(one, two):
    a, b, both = (int(value) for value in hash_texts(pa.array([one, two, one + two], pa.large_string())))
    assert join_hashes(a, b, len(two.encode())) == both


def test_a_set_of_seen_texts_can_grow():
    seen = SeenTexts()
    texts = pa.array([f"text {number}" for number in range(100_000)], pa.large_string())
    hashes = hash_texts(texts)
    assert seen.add(hashes[:60_000]).all()
    assert seen.add(hashes).sum() == 40_000
    assert not seen.add(hashes).any()
    assert seen.add(hash_texts(pa.array(["", "", "x"], pa.large_string()))).tolist() == [True, False, True]


def test_the_shards_of_a_very_large_table_are_in_order(tmp_path):
    for number in (100_000, 99_999, 7):
        (tmp_path / f"part-{number:05d}.parquet").touch()
    assert [path.name[5:-8] for path in shards_in(tmp_path)] == ["00007", "99999", "100000"]


@pytest.mark.parametrize("read", [schema_in, text_bytes, lambda folder: list(read_batches(folder))])
def test_a_damaged_shard_is_reported(tmp_path, read):
    (tmp_path / "part-00000.parquet").write_bytes(b"PAR1 and then something else")
    with pytest.raises(UserError, match=r"part-00000.parquet: damaged: .*; `dvc checkout` restores it"):
        read(tmp_path)

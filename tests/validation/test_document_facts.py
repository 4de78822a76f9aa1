import pyarrow as pa
import pytest
from support.tables import tables

from pipeline.validation.facts import COLUMNS, document_facts, size_of


def shards(batches, *borders):
    """The rows of `batches` in shards that begin at these rows."""
    table = pa.Table.from_batches(batches).select(list(COLUMNS))
    rows = [0, *borders, len(table)]
    return [
        (f"part-{at}", table.slice(rows[at], rows[at + 1] - rows[at]).to_batches(max_chunksize=2))
        for at in range(len(rows) - 1)
    ]


def test_there_is_one_row_a_shard_and_no_text():
    facts = document_facts(shards(tables("one\ntwo", "é", "three")(), 2))
    assert facts["shard"].tolist() == ["part-0", "part-1"]
    assert facts["documents"].tolist() == [2, 1]
    assert facts["chars"].tolist() == [8, 5]
    assert facts["newlines"].tolist() == [1, 0]
    assert (facts[["unnamed", "repeated", "without_text", "empty", "broken"]] == 0).all(axis=None)
    size = size_of(facts)
    assert (size.documents, size.chars, size.newlines) == (3, 13, 1)


def test_a_document_may_go_over_shards():
    batches = list(tables("word " * 20, "a", most=10)())
    facts = document_facts(shards(batches, 4))
    assert facts["documents"].tolist() == [1, 1]
    assert facts["chars"].sum() == 101
    assert (facts[["empty", "broken"]] == 0).all(axis=None)


@pytest.mark.parametrize("border", [1, 2, 3])
def test_names_are_compared_over_shards(border):
    table = pa.Table.from_batches(tables("a", "b", "c", "d")())
    named = table.set_column(0, "document", pa.array(["same", None, "", "same"]))
    facts = document_facts(shards(named.to_batches(), border))
    assert facts["unnamed"].sum() == 2
    assert facts["repeated"].tolist() == [0, 1]


def test_rows_that_do_not_follow_each_other_are_counted():
    table = pa.Table.from_batches(tables("word " * 20, "a", most=10)())
    without_second = pa.concat_tables([table.slice(0, 1), table.slice(2)])
    assert document_facts(shards(without_second.to_batches()))["broken"].tolist() == [1]
    assert document_facts(shards(table.slice(0, 3).to_batches(), 2))["broken"].tolist() == [0, 1]


def test_empty_and_missing_texts_are_counted_by_document():
    table = pa.Table.from_batches(tables("", "a", "b")()).select(list(COLUMNS))
    table = table.set_column(3, "text", pa.array(["", "a", None], pa.large_string()))
    facts = document_facts(shards(table.to_batches()))
    assert (facts["empty"].tolist(), facts["without_text"].tolist()) == ([2], [1])
    assert document_facts([])["documents"].sum() == 0

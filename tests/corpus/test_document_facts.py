import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.corpus.document_facts import FIGURES, TextSize, document_facts, size_of
from pipeline.corpus.documents import BASE


def batch(*rows):
    columns = zip(*rows, strict=True) if rows else [[]] * 4
    return pa.RecordBatch.from_arrays(
        [pa.array(list(column), field.type) for column, field in zip(columns, BASE, strict=True)], schema=BASE
    )


def found(*shards):
    """The figures of each shard that are not 0."""
    facts = document_facts((f"part {number}", [batch(*rows)]) for number, rows in enumerate(shards))
    assert list(facts.columns) == ["shard", *FIGURES]
    assert facts["shard"].tolist() == [f"part {number}" for number in range(len(shards))]
    return [{name: value for name, value in row.items() if value} for row in facts[[*FIGURES]].to_dict("records")]


def test_documents_and_their_text_are_counted():
    whole = [("a", 0, True, "xy\n"), ("b", 0, False, "é\n"), ("b", 1, True, "\nthree")]
    assert found(whole) == [{"documents": 2, "chars": 11, "newlines": 3, "longest": 8}]


def test_a_document_may_go_on_in_the_next_shard():
    first, second = [("a", 0, False, "xyz")], [("a", 1, True, "uv"), ("b", 0, True, "w")]
    assert found(first, second) == [{"documents": 1, "chars": 3}, {"documents": 1, "chars": 3, "longest": 5}]


@pytest.mark.parametrize(
    ("rows", "wrong"),
    [
        ([(None, 0, True, "x"), ("", 0, True, "y")], {"unnamed": 2}),
        ([("a", 0, True, "x"), ("b", 0, True, "y"), ("a", 0, True, "z"), ("a", 0, True, "u")], {"repeated": 2}),
        ([("a", 0, False, "x"), ("a", 1, True, "y")], {}),
        ([("a", 0, True, None)], {"without_text": 1, "empty": 1}),
        ([("a", 0, False, "x"), ("a", 1, True, None)], {"without_text": 1}),
        ([("a", 0, True, ""), ("b", 0, False, ""), ("b", 1, True, ""), ("c", 0, False, ""), ("c", 1, True, "x")],
         {"empty": 2}),
        ([("a", 1, True, "x")], {"broken": 1}),
        ([("a", 0, False, "x"), ("a", 2, True, "y")], {"broken": 1}),
        ([("a", 0, False, "x"), ("a", 0, True, "y")], {"broken": 1, "repeated": 1}),
        ([("a", 0, True, "x"), ("a", 1, True, "y")], {"broken": 1}),
        ([("a", 0, True, "x"), ("b", 0, False, "y")], {"broken": 1}),
    ],
)  # fmt: skip
def test_what_is_wrong_with_documents_is_counted(rows, wrong):
    (figures,) = found(rows)
    assert {name: figures[name] for name in FIGURES[4:] if name in figures} == wrong


def test_names_are_compared_over_all_shards():
    shards = [[("a", 0, True, "x")], [("b", 0, True, "y")], [("a", 0, True, "z")]]
    assert [one.get("repeated", 0) for one in found(*shards)] == [0, 0, 1]


def test_the_last_shard_may_not_end_within_a_document():
    first, second = [("a", 0, True, "x")], [("b", 0, False, "y")]
    assert [one.get("broken", 0) for one in found(first, second)] == [0, 1]
    assert [one.get("broken", 0) for one in found(second, [])] == [0, 1]


def test_no_documents_have_no_size():
    assert size_of(document_facts([])) == TextSize(0, 0, 0, 0)
    assert found([]) == [{}]


@given(st.lists(st.lists(st.text("aé\n", max_size=4), min_size=1, max_size=4), max_size=8), st.data())
def test_how_the_rows_are_batched_and_filed_does_not_matter(documents, data):
    rows = [
        (f"document {number}", part, part == len(parts) - 1, text)
        for number, parts in enumerate(documents)
        for part, text in enumerate(parts)
    ]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=4)))
    batches = [batch(*rows[start:end]) for start, end in zip([0, *cuts], [*cuts, len(rows)], strict=True)]
    one_shard = data.draw(st.booleans())
    facts = document_facts([("all", batches)] if one_shard else [(str(at), [one]) for at, one in enumerate(batches)])
    texts = ["".join(parts) for parts in documents]
    assert size_of(facts) == TextSize(
        documents=len(texts),
        chars=sum(map(len, texts)),
        newlines=sum(text.count("\n") for text in texts),
        longest=max(map(len, texts), default=0),
    )
    assert facts["empty"].sum() == texts.count("")
    assert facts[["unnamed", "repeated", "without_text", "broken"]].to_numpy().sum() == 0

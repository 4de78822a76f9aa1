import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tables import tables

from pipeline.dataset.sides import NAMES, side_rule
from pipeline.params.text import SplitParams
from pipeline.validation.comparisons import copied_documents

KINDS = [
    {"by": "document", "train_fraction": 0.5, "test_fraction": 0.2},
    {"by": "document", "train_fraction": 0.5, "samples": "lines"},
    {"by": "position", "samples": "documents", "train_fraction": 0.5, "test_fraction": 0.2},
]


def one_by_one(texts, params):
    """What `copied_documents` must return, with the documents' sides from whole rows and sets of strings."""
    rule = side_rule(params, total=sum(map(len, texts)))
    sides = [side for batch in tables(*texts)() for side in rule(batch).tolist()]
    train = {text for text, side in zip(texts, sides, strict=True) if side == 0}
    pairs = list(zip(texts, sides, strict=True))
    return {name: sum(own == side and text in train for text, own in pairs) for side, name in enumerate(NAMES) if side}


@given(
    st.lists(st.text("ab é", min_size=1, max_size=8), min_size=1, max_size=30),
    st.sampled_from(KINDS),
    st.integers(1, 9),
)
def test_it_counts_the_documents_that_are_in_train_too(texts, kind, most):
    params = SplitParams(**kind)
    found = copied_documents(tables(*texts, most=most)(), params, total=sum(map(len, texts)))
    assert found == one_by_one(texts, params)


@pytest.mark.parametrize("samples", ["stream", "lines"])
def test_a_cut_through_documents_leaves_none_on_two_sides(samples):
    params = SplitParams(samples=samples, by="position")
    assert copied_documents(tables(*["same text"] * 9)(), params, total=81) == {}

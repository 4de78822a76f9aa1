import numpy as np
import pytest
from conftest import tables
from hypothesis import given
from hypothesis import strategies as st

from pipeline.corpus.document_facts import TextSize, document_facts, size_of
from pipeline.dataset.building import build_splits
from pipeline.dataset.counting import count_ids
from pipeline.dataset.coverage import Covered, cover
from pipeline.dataset.dictionary import PADDING_SIGN, Dictionary
from pipeline.dataset.facts import bucket_facts, dictionary_facts, misplaced, split_facts, text_facts
from pipeline.dataset.samples import Table, cut_windows
from pipeline.dataset.splits import Split, load_split
from pipeline.errors import UserError
from pipeline.params.split import SplitParams

SIDES = ("train", "eval", "test")


def built(folder, given_tables, params):
    """The dictionary, the splits and the text's size, as validate has them."""
    folder.mkdir(exist_ok=True)
    build_splits(given_tables, folder, params)
    splits = {name: load_split(folder / name) for name in SIDES if (folder / name).exists()}
    size = size_of(document_facts([("shard", given_tables())]))
    return Dictionary.load(folder / "dictionary.json"), splits, size


def counted(dictionary, splits):
    return {name: count_ids(split.ids, len(dictionary)) for name, split in splits.items()}


def rows_of(dictionary, splits, size, params, overlaps=None):
    """The table of splits, by its name."""
    covered = {name: cover(split, dictionary) for name, split in splits.items()}
    counts = counted(dictionary, splits)
    return split_facts(
        splits, counts, covered, overlaps or dict.fromkeys(SIDES, 0.0), size=size, params=params
    ).set_index("split")


documents = st.lists(st.text("ab\n", min_size=1, max_size=12), min_size=2, max_size=8)
fractions = st.tuples(st.integers(1, 18), st.integers(0, 18)).filter(lambda both: sum(both) < 20)


@given(
    documents,
    st.sampled_from(["stream", "documents", "lines"]),
    st.sampled_from(["position", "document"]),
    fractions,
    st.integers(1, 12),
)
def test_whatever_is_split_is_whole_and_cut_where_it_was_asked(tmp_path_factory, texts, samples, by, twentieths, most):
    train, test = (one / 20 for one in twentieths)
    params = SplitParams(samples=samples, by=by, train_fraction=train, test_fraction=test, buckets=(3, 5))
    try:
        dictionary, splits, size = built(tmp_path_factory.mktemp("split") / "s", tables(*texts, most=most), params)
    except UserError:
        return  # too little on one side
    (row,) = text_facts(size, splits, params).to_dict("records")
    assert (row["documents"], row["clean_chars"], row["lost_chars"]) == (len(texts), sum(map(len, texts)), 0)
    found = rows_of(dictionary, splits, size, params)
    for column in ("misplaced_chars", "unlabelled", "repeated", "labelled_begins", "unbounded"):
        assert (found[column] == 0).all(), column
    assert found["min_id"].min() >= 1
    assert found["max_id"].max() < len(dictionary)
    assert found["chars"].sum() == row["split_chars"]
    buckets = bucket_facts(splits, {name: cover(split, dictionary) for name, split in splits.items()})
    assert (buckets[["out_of_range", "out_of_order", "misplaced_labels"]] == 0).all(axis=None)
    table = dictionary_facts(dictionary, counted(dictionary, splits))
    assert table["rises"].all()
    assert not table["idle"].any()


def test_a_lost_and_a_doubled_character_are_counted(tmp_path):
    params = SplitParams(buckets=(5,))
    _, splits, size = built(tmp_path / "s", tables("abcde" * 10, "fgh" * 10), params)
    train = splits["train"].ids
    for ids, lost in ((train[:-3], 3), (np.append(train, train[:2]), 2)):
        changed = splits | {"train": Split(ids, cut_windows(len(ids), (5,)))}
        (row,) = text_facts(size, changed, params).to_dict("records")
        assert row == {"documents": 2, "clean_chars": 80, "split_chars": len(ids) + 8, "lost_chars": lost}


def size_with(longest=0, newlines=0):
    return TextSize(documents=9, chars=1000, newlines=newlines, longest=longest)


@pytest.mark.parametrize(
    ("params", "size", "allowed"),
    [
        ({}, size_with(longest=300), 1),
        ({"samples": "documents"}, size_with(longest=30), 31),
        ({"samples": "lines"}, size_with(longest=30, newlines=20), 51),
    ],
)
def test_a_side_may_be_as_far_from_its_share_as_its_rule_explains(params, size, allowed):
    params = SplitParams(**params)
    for chars in (900 - allowed, 900, 900 + allowed):
        assert misplaced(chars, 900.0, size, params) == 0
    assert misplaced(900 + allowed + 7, 900.0, size, params) == 7
    assert misplaced(900 - allowed - 7, 900.0, size, params) == 7


def test_only_by_position_a_share_is_exact():
    by_column = SplitParams(by="column", column="year", train_until=2000)
    assert misplaced(10, 900.0, size_with(), by_column) == 0
    assert misplaced(10, 900.0, size_with(), SplitParams(by="document")) == 0


def test_what_was_counted_stands_in_the_row_of_its_split():
    params = SplitParams(train_fraction=0.5, test_fraction=0.25, samples="documents")
    ids = np.array([1, 3, 4, 5, 2, 1, 3, 2], dtype=np.uint8)
    starts = np.array([0, 5])
    split = Split(ids, {4: Table(np.array([[0, 4], [5, 2]]))}, starts)
    splits = dict.fromkeys(SIDES, split)
    covered = {name: Covered(number, number + 1, number + 2, number + 3) for number, name in enumerate(SIDES)}
    counts = {name: count_ids(ids, 9) for name in SIDES}
    table = split_facts(
        splits, counts, covered, {"eval": 0.25, "test": 0.5}, size=size_with(longest=3), params=params
    ).set_index("split")
    assert table.loc["eval"].to_dict() == {
        "ids": 8, "chars": 4, "documents": 2, "samples": 2, "min_id": 1, "max_id": 5, "misplaced_chars": 0,
        "unlabelled": 1, "repeated": 2, "labelled_begins": 3, "unbounded": 4, "overlap": 0.25,
    }  # fmt: skip
    assert table["overlap"].tolist() == [0.0, 0.25, 0.5]


def test_an_id_that_no_dictionary_has_is_the_greatest():
    ids = np.array([3, 200, 1], dtype=np.uint8)
    splits = {name: Split(ids, cut_windows(3, (2,))) for name in ("train", "eval")}
    table = rows_of(Dictionary.of("abc"), splits, size_with(), SplitParams())
    assert table[["min_id", "max_id"]].to_numpy().tolist() == [[1, 200], [1, 200]]


def buckets_with(rows):
    samples = Table(np.array(rows, dtype=np.int64).reshape(-1, 2))
    split = Split(np.ones(100, dtype=np.uint8), {10: samples})
    return bucket_facts({"train": split}, {"train": Covered(misplaced_labels={10: 3})}).iloc[0].to_dict()


def test_a_buckets_figures():
    assert buckets_with([(0, 10), (10, 10), (20, 4)]) == {
        "split": "train", "bucket": 10, "samples": 3, "positions": 24, "padding": pytest.approx(0.2),
        "out_of_range": 0, "out_of_order": 0, "misplaced_labels": 3,
    }  # fmt: skip
    assert buckets_with([])["padding"] == 0


FAR = 2**63 - 1


@pytest.mark.parametrize("row", [(-1, 5), (0, 0), (0, -FAR), (0, 11), (90, 10), (1000, 1), (FAR, 10), (-FAR, FAR)])
def test_samples_out_of_range_are_counted(row):
    assert buckets_with([(0, 10), row, (89, 10)])["out_of_range"] == 1


def test_samples_out_of_order_are_counted_over_chunks_borders_too(monkeypatch):
    from pipeline.dataset import facts
    from pipeline.dataset.samples import chunks_of_samples

    rows = [(0, 1), (5, 1), (4, 1), (4, 1), (FAR, 1), (-FAR, 1), (3, 1)]
    assert buckets_with(rows)["out_of_order"] == 2
    monkeypatch.setattr(facts, "chunks_of_samples", lambda samples: chunks_of_samples(samples, 2))
    assert buckets_with(rows)["out_of_order"] == 2


def test_dictionary_facts(split_folder, text):
    dictionary = Dictionary.load(split_folder / "dictionary.json")
    counts = counted(dictionary, {name: load_split(split_folder / name) for name in ("train", "eval")})
    table = dictionary_facts(dictionary, counts).set_index("symbol")
    assert table["total"].sum() == len(text)
    border = round(len(text) * 0.9)
    assert table.loc["q", ["train", "eval", "total"]].tolist() == [
        text[:border].count("q"), text[border:].count("q"), text.count("q"),
    ]  # fmt: skip
    assert table["rises"].all()
    assert not table["idle"].any()
    shuffled = Dictionary((*dictionary.characters[::-1], "Ω"))
    table = dictionary_facts(shuffled, counted(shuffled, {"train": load_split(split_folder / "train")}))
    assert table["rises"].sum() == 3  # padding, the first character and the last
    assert table.set_index("symbol").loc["Ω", "idle"]


def test_a_text_may_have_the_signs_of_symbols():
    dictionary = Dictionary.of(f"ab{PADDING_SIGN}\u2402", bounded=True)
    table = dictionary_facts(dictionary, {"train": np.ones(len(dictionary), dtype=np.int64)})
    assert table["symbol"].is_unique
    assert table.loc[table["is_character"], "symbol"].tolist() == ["a", "b", PADDING_SIGN, "\u2402"]

import numpy as np
import pytest
from support.tables import tables

from pipeline.dataset.arrays import Table, count_ids, cut_windows
from pipeline.dataset.build_splits import build_splits
from pipeline.dataset.dictionary import Dictionary
from pipeline.dataset.splits import Split, load_split
from pipeline.params.text import SplitParams
from pipeline.validation.coverage import cover
from pipeline.validation.facts import (
    TextSize,
    bucket_facts,
    dictionary_facts,
    longest_document,
    misplaced,
    num_chars,
    split_facts,
    text_facts,
)

RANDOM = np.random.default_rng(1)
IDS = Dictionary.of("abcdefgh")


def split_of(ids, samples=None, buckets=(10,)):
    array = np.array(ids, dtype=np.uint8)
    return Split(array, cut_windows(len(array), buckets) if samples is None else {buckets[0]: Table(samples)})


def built(folder, texts, **params):
    build_splits(tables(*texts), folder, SplitParams(**params))
    return {name: load_split(folder / name) for name in ("train", "eval", "test") if (folder / name).exists()}


def test_split_facts():
    splits = {"train": split_of(RANDOM.integers(1, 9, 900)), "eval": split_of(RANDOM.integers(2, 8, 99))}
    counts = {name: count_ids(split.ids, len(IDS)) for name, split in splits.items()}
    covered = {name: cover(split, IDS) for name, split in splits.items()}
    size, params = TextSize(documents=1, chars=999, newlines=0), SplitParams()
    table = split_facts(splits, counts, covered, {"eval": 0.25}, copies={"eval": 3}, size=size, params=params)
    table = table.set_index("split")
    assert table["ids"].tolist() == table["chars"].tolist() == [900, 99]
    assert table["min_id"].tolist() == [1, 2]
    assert table["max_id"].tolist() == [8, 7]
    assert table["overlap"].tolist() == [0.0, 0.25]
    assert table["copied_documents"].tolist() == [0, 3]
    for column in ("misplaced_chars", "unlabelled", "repeated", "labelled_begins", "unbounded", "documents"):
        assert (table[column] == 0).all(), column


def test_samples_are_judged_in_their_order():
    samples = np.array([[0, 10], [30, 10], [10, 10], [95, 10], [40, 11], [50, 0], [-1, 5]])
    split = split_of(np.ones(100), samples)
    table = bucket_facts({"train": split}, {"train": cover(split, IDS)})
    assert table["out_of_range"].tolist() == [4]
    assert table["out_of_order"].tolist() == [3]
    assert table["samples"].tolist() == [7]
    windows = split_of(np.ones(100), buckets=(10, 7))
    table = bucket_facts({"train": windows}, {"train": cover(windows, IDS)})
    assert table["positions"].sum() == 99
    assert (table[["out_of_range", "out_of_order", "misplaced_labels"]] == 0).all(axis=None)
    assert 0 <= table["padding"].max() < 0.1


def test_dictionary_facts(split_folder, text):
    dictionary = Dictionary.load(split_folder / "dictionary.json")
    splits = {name: load_split(split_folder / name) for name in ("train", "eval")}
    counts = {name: count_ids(split.ids, len(dictionary)) for name, split in splits.items()}
    table = dictionary_facts(dictionary, counts)
    assert table["total"].sum() == len(text)
    assert table.set_index("symbol").loc["q", "total"] == text.count("q")
    assert table["rises"].all()
    assert not table["idle"].any()
    shuffled = Dictionary((*dictionary.characters[::-1], "Ω"))
    table = dictionary_facts(shuffled, {name: count_ids(split.ids, len(shuffled)) for name, split in splits.items()})
    assert not table["rises"].all()
    assert table.set_index("symbol").loc["Ω", "idle"]


@pytest.mark.parametrize(
    ("params", "lost"),
    [
        ({"by": "position"}, 0),
        ({"by": "position", "test_fraction": 0.3, "train_fraction": 0.4}, 0),
        ({"by": "document", "train_fraction": 0.5}, 0),
        ({"by": "document", "train_fraction": 0.4, "test_fraction": 0.3}, 0),
        ({"samples": "documents"}, 0),
        ({"samples": "lines"}, 0),
    ],
)
def test_the_clean_text_is_found_in_the_splits(tmp_path, params, lost):
    texts = [f"line {number}\n\nand {number * 7}" for number in range(20)]
    splits = built(tmp_path, texts, **params)
    size = TextSize(documents=20, chars=sum(map(len, texts)), newlines=40)
    assert text_facts(size, splits, SplitParams(**params))["lost_chars"].tolist() == [lost]
    more = TextSize(documents=20, chars=size.chars + 3, newlines=40)
    assert text_facts(more, splits, SplitParams(**params))["lost_chars"].tolist() == [3]


def test_the_longest_document_bounds_how_far_a_cut_is_off(tmp_path, monkeypatch):
    splits = built(tmp_path, ["abc", "de", "fghijkl", "m" * 9, "n"], samples="documents", train_fraction=0.5)
    monkeypatch.setattr("pipeline.dataset.arrays.CHUNK", 2)
    assert [longest_document(split) for split in splits.values()] == [7, 9]
    assert [num_chars(split) for split in splits.values()] == [12, 10]


def test_how_far_a_side_may_be_from_what_was_asked():
    def off(chars, longest=50, **params):
        return misplaced(chars, 900.0, SplitParams(**params), longest=longest, newlines=20)

    assert [off(chars, longest=0) for chars in (900, 901, 897)] == [0, 0, 2]
    assert [off(chars, samples="documents") for chars in (951, 849, 955)] == [0, 0, 4]
    assert [off(chars, samples="lines") for chars in (971, 975)] == [0, 4]
    assert off(3, by="document") == 0
    assert off(3, by="column", column="side") == 0

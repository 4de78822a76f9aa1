import numpy as np
import pytest

from pipeline.dataset.dictionary import Dictionary
from pipeline.dataset.facts import bucket_facts, dictionary_facts, document_facts, split_facts
from pipeline.dataset.samples import cut_windows
from pipeline.dataset.splits import Split, load_split


def split_of(ids, buckets=(10,)):
    array = np.array(ids, dtype=np.uint8)
    return Split(ids=array, buckets=cut_windows(len(array), buckets))


def facts(train, evaluation, window=10):
    return split_facts({"train": train, "eval": evaluation}, train_fraction=0.9, window=window).set_index("split")


RANDOM = np.random.default_rng(1)
TRAIN, EVAL = split_of(RANDOM.integers(1, 9, 900)), split_of(RANDOM.integers(1, 9, 100))


def test_a_good_split_has_nothing_to_complain_about():
    table = facts(TRAIN, EVAL)
    for column in ("misplaced_chars", "unlabelled", "repeated", "overlap"):
        assert (table[column] == 0).all(), column
    buckets = bucket_facts({"train": TRAIN, "eval": EVAL})
    assert (buckets[["out_of_range", "misplaced_labels"]] == 0).all(axis=None)
    assert buckets["positions"].tolist() == [899, 99]


def test_gaps_and_repeats_are_counted():
    samples = TRAIN.buckets[10].copy()
    samples[3] = samples[2]
    table = facts(Split(TRAIN.ids, {10: samples}), EVAL)
    assert (table.loc["train", "unlabelled"], table.loc["train", "repeated"]) == (10, 10)


def test_samples_out_of_range_are_counted():
    samples = TRAIN.buckets[10].copy()
    samples[0] = (895, 10)
    samples[1, 1] = 11
    assert bucket_facts({"train": Split(TRAIN.ids, {10: samples})})["out_of_range"].tolist() == [2]


def test_copied_eval_text_is_seen():
    assert facts(TRAIN, split_of(TRAIN.ids[300:400])).loc["eval", "overlap"] == 1.0
    half = np.concatenate([TRAIN.ids[300:351], EVAL.ids[51:]])
    assert facts(TRAIN, split_of(half)).loc["eval", "overlap"] == pytest.approx(5 / 9)


def test_dictionary_facts(split_folder, text):
    dictionary = Dictionary.load(split_folder / "dictionary.json")
    splits = {name: load_split(split_folder / name) for name in ("train", "eval")}
    table = dictionary_facts(dictionary, splits)
    assert table["total"].sum() == len(text)
    assert table.set_index("symbol").loc["q", "total"] == text.count("q")
    assert table["rises"].all()
    assert not table["idle"].any()
    shuffled = Dictionary((*dictionary.characters[::-1], "Ω"))
    table = dictionary_facts(shuffled, splits)
    assert not table["rises"].all()
    assert table.set_index("symbol").loc["Ω", "idle"]


def test_document_facts_have_no_text():
    table = document_facts(iter([{"document": "a", "text": "xy"}, {"document": "b", "text": None}]))
    assert table["chars"].isna().tolist() == [False, True]
    assert list(table.columns) == ["document", "chars"]

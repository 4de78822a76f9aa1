"""Every output that the pipeline trains on is corrupted in turn; the contract that says so is named."""

import json

import numpy as np
import pandas as pd
import pytest

from pipeline.corpus.contracts import Bounds, contracts
from pipeline.corpus.validation import check, told
from pipeline.dataset.dictionary import Dictionary
from pipeline.dataset.facts import bucket_facts, dictionary_facts, document_facts, split_facts
from pipeline.dataset.splits import load_split


class Data:
    """What the stages before validate leave, and what is read back of it."""

    def __init__(self, folder, text):
        self.folder = folder
        self.documents = [{"document": "one", "text": text[:1000]}, {"document": "two", "text": text[1000:]}]
        self.bounds = {"batch_size": 8, "window": 20, "max_overlap": 1.0}

    def array(self, name):
        return np.load(self.folder / name)

    def put(self, name, array):
        np.save(self.folder / name, array)

    def dictionary(self, **changes):
        path = self.folder / "dictionary.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    def characters(self):
        return json.loads((self.folder / "dictionary.json").read_text())["characters"]

    def check(self, **options):
        dictionary = Dictionary.load(self.folder / "dictionary.json")
        splits = {name: load_split(self.folder / name) for name in ("train", "eval")}
        tables = {
            "documents": document_facts(iter(self.documents)),
            "dictionary": dictionary_facts(dictionary, splits),
            "splits": split_facts(splits, train_fraction=0.9, window=self.bounds["window"]),
            "buckets": bucket_facts(splits),
        }
        return check(tables, contracts(Bounds(dictionary_size=len(dictionary), **self.bounds)), **options)


@pytest.fixture
def data(split_folder, text):
    return Data(split_folder, text)


def no_documents(data):
    data.documents = []


def a_nameless_document(data):
    data.documents[0]["document"] = None


def documents_of_one_name(data):
    data.documents[0]["document"] = "two"


def a_null_text(data):
    data.documents[1]["text"] = None


def an_empty_document(data):
    data.documents[0]["text"] = ""


def a_character_twice(data):
    data.dictionary(characters=[data.characters()[0], *data.characters()[:-1]])


def an_unsorted_dictionary(data):
    data.dictionary(characters=data.characters()[::-1])


def a_character_too_many(data):
    data.dictionary(characters=[*data.characters(), "Ω"])


def an_id_without_character(data):
    ids = data.array("train/ids.npy")
    ids[7] = 200
    data.put("train/ids.npy", ids)


def padding_in_the_text(data):
    ids = data.array("eval/ids.npy")
    ids[7] = 0
    data.put("eval/ids.npy", ids)


def a_lost_tail(data):
    data.put("train/ids.npy", data.array("train/ids.npy")[:-500])


def a_lost_sample(data):
    data.put("train/bucket_00020.npy", data.array("train/bucket_00020.npy")[1:])


def a_sample_twice(data):
    samples = data.array("eval/bucket_00020.npy")
    data.put("eval/bucket_00020.npy", np.concatenate([samples, samples[:1]]))


def a_sample_beyond_the_text(data):
    samples = data.array("train/bucket_00020.npy")
    samples[0, 0] = 1_000_000
    data.put("train/bucket_00020.npy", samples)


def copied_eval_text(data):
    data.bounds["max_overlap"] = 0.01


def too_little_for_a_batch(data):
    data.bounds["batch_size"] = 1000


def too_little_for_a_window(data):
    data.bounds["window"] = 1000


CORRUPTIONS = {
    no_documents: "documents_present",
    a_nameless_document: "documents_named",
    documents_of_one_name: "documents_distinct",
    a_null_text: "documents_have_text",
    an_empty_document: "documents_not_empty",
    a_character_twice: "dictionary_distinct",
    an_unsorted_dictionary: "dictionary_sorted",
    a_character_too_many: "dictionary_used",
    an_id_without_character: "ids_within_dictionary",
    padding_in_the_text: "no_padding_in_text",
    a_lost_tail: "fractions_as_asked",
    a_lost_sample: "every_character_labelled",
    a_sample_twice: "no_character_labelled_twice",
    a_sample_beyond_the_text: "samples_within_text",
    copied_eval_text: "eval_not_in_train",
    too_little_for_a_batch: "train_fills_a_batch",
    too_little_for_a_window: "eval_fills_a_window",
}


def test_good_data_passes(data):
    outcomes = data.check()
    assert told(outcomes) is None
    assert all(outcome.passed for outcome in outcomes)


@pytest.mark.parametrize(("corrupt", "name"), CORRUPTIONS.items(), ids=lambda value: getattr(value, "__name__", value))
def test_what_is_corrupted_is_named(data, corrupt, name):
    corrupt(data)
    outcomes = data.check()
    assert name in {outcome.name for outcome in outcomes if not outcome.passed}
    line = told(outcomes)
    assert line.startswith("validate: ")
    assert name in line
    assert "allowed is" in line
    assert "\n" not in line


def test_labels_are_compared_with_the_batches_that_train(data, monkeypatch):
    from pipeline.dataset import facts
    from pipeline.dataset.batches import Batch, ordered_batches

    def late(*arguments):
        for batch in ordered_batches(*arguments):
            yield Batch(inputs=batch.inputs, labels=batch.inputs)

    monkeypatch.setattr(facts, "ordered_batches", late)
    assert "labels_one_on" in {outcome.name for outcome in data.check() if not outcome.passed}


def test_every_contract_has_a_corruption_that_breaks_it():
    names = {one.name for one in contracts(Bounds(dictionary_size=9, batch_size=1, window=1, max_overlap=0))}
    assert names == {*CORRUPTIONS.values(), "labels_one_on"}


def test_the_result_is_the_same_every_time_and_data_docs_are_on_request(data, tmp_path):
    assert data.check() == data.check(data_docs=tmp_path / "docs")
    assert (tmp_path / "docs/index.html").exists()


def test_the_line_for_people():
    table = pd.DataFrame({"document": ["a"], "chars": [0]})
    own = [
        one
        for one in contracts(Bounds(dictionary_size=9, batch_size=1, window=1, max_overlap=0))
        if one.table == "documents"
    ]
    assert told(check({"documents": table}, own)) == (
        "validate: documents_not_empty: a document has no characters left; found chars 0, allowed is at least 1"
    )

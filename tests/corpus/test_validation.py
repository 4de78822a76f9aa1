"""Contracts over small facts tables; tests/stages/test_validate.py breaks them by what is wrong in real files."""

<<<<<<< HEAD
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
=======
import pandas as pd
>>>>>>> vtests
import pytest
from conftest import TEXT, tables

<<<<<<< HEAD
from pipeline.corpus.contracts import TABLES, Bounds, contracts
from pipeline.corpus.document_facts import document_facts, size_of
from pipeline.corpus.validation import check, told, warnings
from pipeline.dataset.building import build_splits
from pipeline.dataset.counting import count_ids
from pipeline.dataset.coverage import cover
from pipeline.dataset.dictionary import Dictionary
from pipeline.dataset.facts import bucket_facts, dictionary_facts, split_facts, text_facts
from pipeline.dataset.leakage import overlap
from pipeline.dataset.splits import load_split
from pipeline.params.split import SplitParams
from pipeline.params.validate import EXPECTATIONS

LINES = [f"{line} number {number}" for number, line in enumerate(TEXT.splitlines())]


class Data:
    """What the stages before validate leave, and what is read back of it."""

    def __init__(self, folder, texts, **params):
        self.folder = folder
        self.params = SplitParams(**params)
        batches = tables(*texts)
        build_splits(batches, folder, self.params)
        self.rows = pa.Table.from_batches(batches()).select(["document", "part", "last", "text"]).to_pylist()
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

    def facts(self):
        dictionary = Dictionary.load(self.folder / "dictionary.json")
        splits = {name: load_split(self.folder / name) for name in ("train", "eval")}
        counts = {name: count_ids(split.ids, len(dictionary)) for name, split in splits.items()}
        covered = {name: cover(split, dictionary) for name, split in splits.items()}
        overlaps = {"eval": overlap(splits["eval"].ids, splits["train"].ids, dictionary)}
        schema = pa.schema(
            [("document", pa.string()), ("part", pa.int32()), ("last", pa.bool_()), ("text", pa.large_string())]
        )
        documents = document_facts([("part-0", pa.Table.from_pylist(self.rows, schema).to_batches())])
        size = size_of(documents)
        return {
            "documents": documents,
            "text": text_facts(size, splits, self.params),
            "dictionary": dictionary_facts(dictionary, counts),
            "splits": split_facts(splits, counts, covered, overlaps, size=size, params=self.params),
            "buckets": bucket_facts(splits, covered),
        }

    def check(self, *, about=None, **options):
        """All outcomes, or those on the table that the contract `about` is on."""
        dictionary = Dictionary.load(self.folder / "dictionary.json")
        own = contracts(Bounds(dictionary_size=len(dictionary), **self.bounds))
        only = {one.table for one in own if about in {None, one.name}}
        facts = {name: table for name, table in self.facts().items() if name in only}
        return check(facts, [one for one in own if one.table in only], **options)

    def failed(self, **options):
        return {outcome.name for outcome in self.check(**options) if not outcome.passed}


@pytest.fixture
def stream(tmp_path):
    return Data(tmp_path, [TEXT[:1000], TEXT[1000:]], buckets=(20,))


@pytest.fixture
def documents(tmp_path):
    return Data(tmp_path, LINES, samples="documents", buckets=(50, 90))


def no_documents(data):
    data.rows = []


def a_nameless_document(data):
    data.rows[0]["document"] = None


def documents_of_one_name(data):
    data.rows[0]["document"] = data.rows[1]["document"]


def a_document_without_an_end(data):
    data.rows[-1]["last"] = False


def a_null_text(data):
    data.rows[1]["text"] = None


def an_empty_document(data):
    data.rows[0]["text"] = ""


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


def a_lost_document(data):
    data.rows.append({"document": "lost", "part": 0, "last": True, "text": "lost"})


def a_lost_tail(data):
    data.put("train/ids.npy", data.array("train/ids.npy")[:-500])


def samples_in_another_order(data):
    data.put("train/bucket_00090.npy", data.array("train/bucket_00090.npy")[::-1])


def a_sample_beyond_the_text(data):
    samples = data.array("train/bucket_00090.npy")
    samples[0, 0] = 1_000_000
    data.put("train/bucket_00090.npy", samples)


def a_lost_sample(data):
    data.put("train/bucket_00090.npy", data.array("train/bucket_00090.npy")[1:])


def a_sample_twice(data):
    samples = data.array("eval/bucket_00090.npy")
    data.put("eval/bucket_00090.npy", np.concatenate([samples[:1], samples]))


def an_end_that_is_a_character(data):
    ids = data.array("train/ids.npy")
    ids[data.array("train/documents.npy")[1] - 1] = ids[5]
    data.put("train/ids.npy", ids)


def a_sample_over_a_documents_end(data):
    samples = data.array("train/bucket_00090.npy")
    samples[0, 1] += 2
    data.put("train/bucket_00090.npy", samples)


def copied_eval_text(data):
    data.bounds["max_overlap"] = 0.01


def too_little_for_a_batch(data):
    data.bounds["batch_size"] = 1000


def too_little_for_a_window(data):
    data.bounds["window"] = 1000


OF_A_STREAM = {
    no_documents: "documents_present",
    a_nameless_document: "documents_named",
    documents_of_one_name: "documents_distinct",
    a_document_without_an_end: "documents_whole",
    a_null_text: "documents_have_text",
    an_empty_document: "documents_not_empty",
    a_character_twice: "dictionary_distinct",
    an_unsorted_dictionary: "dictionary_sorted",
    a_character_too_many: "dictionary_used",
    an_id_without_character: "ids_within_dictionary",
    padding_in_the_text: "no_padding_in_text",
    a_lost_document: "whole_text_split",
    a_lost_tail: "fractions_as_asked",
    copied_eval_text: "eval_not_in_train",
    too_little_for_a_batch: "train_fills_a_batch",
    too_little_for_a_window: "eval_fills_a_window",
}
OF_DOCUMENTS = {
    samples_in_another_order: "samples_in_order",
    a_sample_beyond_the_text: "samples_within_text",
    a_lost_sample: "every_character_labelled",
    a_sample_twice: "no_character_labelled_twice",
    an_end_that_is_a_character: "documents_bounded",
    a_sample_over_a_documents_end: "no_begin_labelled",
}


def named(value):
    return getattr(value, "__name__", value)


@pytest.mark.parametrize(
    "params",
    [
        {"buckets": (20,)},
        {"buckets": (7, 20), "by": "document", "train_fraction": 0.6},
        {"samples": "documents", "buckets": (50, 90)},
        {"samples": "documents", "buckets": (20,), "by": "document", "train_fraction": 0.6},
        {"samples": "lines", "buckets": "auto"},
    ],
)
def test_good_data_passes(tmp_path, params):
    texts = ["\n".join(LINES[:30]), "\n".join(LINES[30:])] if params.get("samples") == "lines" else LINES
    data = Data(tmp_path, texts, **params)
    outcomes = data.check()
    assert told(outcomes) is None
    assert all(outcome.passed and outcome.stops for outcome in outcomes)


@pytest.mark.parametrize(("corrupt", "name"), OF_A_STREAM.items(), ids=named)
def test_what_is_corrupted_is_named(stream, corrupt, name):
    corrupt(stream)
    outcomes = stream.check(about=name)
    assert name in {outcome.name for outcome in outcomes if not outcome.passed}
    line = told(outcomes)
    assert line.startswith("validate: ")
    assert name in line
    assert "allowed is" in line
    assert "\n" not in line


@pytest.mark.parametrize(("corrupt", "name"), OF_DOCUMENTS.items(), ids=named)
def test_what_is_corrupted_among_documents_is_named(documents, corrupt, name):
    corrupt(documents)
    assert name in documents.failed(about=name)


def test_labels_are_compared_with_the_batches_that_train(stream, monkeypatch):
    from pipeline.dataset import coverage
    from pipeline.dataset.batches import Batch, gather

    def late(*arguments):
        batch = gather(*arguments)
        return Batch(inputs=batch.inputs, labels=batch.inputs)

    monkeypatch.setattr(coverage, "gather", late)
    assert stream.failed() == {"labels_one_on"}


def test_every_contract_has_a_corruption_that_breaks_it():
    own = contracts(Bounds(dictionary_size=9, batch_size=1, window=1, max_overlap=0))
    assert {one.name for one in own} == {*OF_A_STREAM.values(), *OF_DOCUMENTS.values(), "labels_one_on"}
    assert {one.table for one in own} == set(TABLES)


def test_the_expectations_that_params_know_are_the_contracts_in_their_order():
    own = contracts(Bounds(dictionary_size=9, batch_size=1, window=1, max_overlap=0))
    assert tuple(one.name for one in own) == EXPECTATIONS


def test_the_page_about_validation_has_all_of_them():
    page = (Path(__file__).parents[2] / "docs/validation.md").read_text(encoding="utf-8")
    assert {name for name in EXPECTATIONS if f"`{name}`" not in page} == set()


def test_only_the_named_expectations_stop_the_pipeline(stream):
    copied_eval_text(stream)
    too_little_for_a_batch(stream)
    outcomes = stream.check(fail_on=("train_fills_a_batch", "documents_named"))
    assert told(outcomes).startswith("validate: train_fills_a_batch: ")
    (line,) = warnings(outcomes)
    assert line.startswith("warning: validate: eval_not_in_train: what is evaluated")
    assert "found overlap 1, allowed is at most 0.01" in line
    assert {outcome.name for outcome in outcomes if outcome.stops} == {"train_fills_a_batch", "documents_named"}
    assert told(stream.check(fail_on=())) is None


def test_the_result_is_the_same_with_data_docs(stream, tmp_path):
    too_little_for_a_window(stream)
    assert stream.check() == stream.check(data_docs=tmp_path / "docs")
    assert stream.check(fail_on=()) == stream.check(fail_on=(), data_docs=tmp_path / "docs")


def test_data_docs_say_name_bound_and_reason(stream, tmp_path):
    too_little_for_a_window(stream)
    stream.check(fail_on=("documents_named",), data_docs=tmp_path / "docs")
    index = (tmp_path / "docs/index.html").read_text()
    assert ">splits</a>: failed (" in index
    assert ">text</a>: all passed (" in index
    (page,) = (tmp_path / "docs/validations/splits").rglob("*.html")
    for shown in (
        "eval_fills_a_window: chars where split != ",
        "at least 1001. Otherwise the eval or test text is too",
    ):
        assert shown in page.read_text().replace("&#34;", '"')
    suite = (tmp_path / "docs/expectations/splits.html").read_text()
    assert TABLES["splits"] in suite
    assert "Only warns: validate.fail_on does not list it." in suite


def test_the_line_for_people(stream):
    facts = {"documents": stream.facts()["documents"].assign(empty=1)}
    own = [one for one in contracts(Bounds(9, 1, 1, 0)) if one.table == "documents"]
    assert told(check(facts, own)) == (
        "validate: documents_not_empty: a document has no characters left; found empty 1, allowed is at most 0"
=======
from pipeline.corpus.contracts import KEYS, TABLES, Bounds, contracts
from pipeline.corpus.validation import Outcome, check, told, warnings
from pipeline.params.validate import EXPECTATIONS

ALL = contracts(Bounds(dictionary_size=9, batch_size=8, window=20, max_overlap=0.01))
DOCUMENTS = {"shard": "part-00000.parquet", "documents": 3}
FIGURES = ["unnamed", "repeated", "broken", "without_text", "empty"]
SPLIT = {"max_id": 8, "min_id": 1, "misplaced_chars": 0, "unlabelled": 0, "repeated": 0, "unbounded": 0}
SPLITS = [
    SPLIT | {"split": "train", "labelled_begins": 0, "overlap": 0.0, "samples": 8, "chars": 5},
    SPLIT | {"split": "eval", "labelled_begins": 0, "overlap": 0.01, "samples": 1, "chars": 21},
    SPLIT | {"split": "test", "labelled_begins": 0, "overlap": 0.01, "samples": 1, "chars": 21},
]


def documents(**figures):
    return {"documents": pd.DataFrame([DOCUMENTS | dict.fromkeys(FIGURES, 0) | figures])}


def splits(**rows):
    """The splits' table, with other values in the rows of some."""
    return {"splits": pd.DataFrame([row | rows.get(row["split"], {}) for row in SPLITS])}


def checked(tables, **options):
    return check(tables, [one for one in ALL if one.table in tables], **options)


def failed(outcomes):
    return [outcome.name for outcome in outcomes if not outcome.passed]


def test_the_expectations_that_params_know_are_the_contracts_in_their_order():
    assert tuple(one.name for one in ALL) == EXPECTATIONS
    assert {one.table for one in ALL} == set(TABLES) == set(KEYS)


def test_what_is_just_allowed_passes():
    outcomes = checked(documents() | splits())
    assert failed(outcomes) == []
    assert (told(outcomes), warnings(outcomes)) == (None, [])
    assert [outcome.name for outcome in outcomes] == [one.name for one in ALL if one.table in {"documents", "splits"}]


@pytest.mark.parametrize(
    ("rows", "name", "found"),
    [
        ({"train": {"max_id": 9}}, "ids_within_dictionary", "max_id 9 (split train)"),
        ({"eval": {"min_id": 0}}, "no_padding_in_text", "min_id 0 (split eval)"),
        ({"test": {"overlap": 0.5}}, "eval_not_in_train", "overlap 0.5 (split test)"),
        ({"eval": {"overlap": 0.5}, "test": {"overlap": 1 / 3}}, "eval_not_in_train",
         "overlap 0.5 (split eval), 0.3333 (split test)"),
        ({"train": {"samples": 7}}, "train_fills_a_batch", "samples 7 (split train)"),
        ({"eval": {"chars": 20}}, "eval_fills_a_window", "chars 20 (split eval)"),
        ({"test": {"chars": 3}}, "eval_fills_a_window", "chars 3 (split test)"),
    ],
)  # fmt: skip
def test_what_is_found_is_said_with_its_row(rows, name, found):
    outcomes = checked(splits(**rows))
    assert failed(outcomes) == [name]
    assert next(outcome.found for outcome in outcomes if outcome.name == name) == found


def test_the_line_for_people():
    assert told(checked(documents(empty=2))) == (
        "validate: documents_not_empty: a document has no characters left; "
        "found empty 2 (shard part-00000.parquet), allowed is at most 0"
>>>>>>> vtests
    )
    assert told(checked(documents(documents=0))) == (
        "validate: documents_present: there is no text; found 0, allowed is at least 1"
    )


def test_the_first_failure_is_told_in_full_and_the_others_by_name():
    line = told(checked(documents(empty=2, unnamed=1, repeated=1)))
    assert line.startswith("validate: documents_named: ")
    assert line.endswith("(failed too: documents_distinct, documents_not_empty)")
    assert "\n" not in line


def dictionary(**columns):
    return {"dictionary": pd.DataFrame({"id": [0, 1], "symbol": ["a", "b"], "rises": True, "idle": False} | columns)}


@pytest.mark.parametrize(
    ("columns", "name", "said"),
    [
        ({"symbol": ["a", "a"]}, "dictionary_distinct", "found symbol 'a' (id 0), 'a' (id 1), allowed is distinct"),
        ({"rises": [True, False]}, "dictionary_sorted", "found rises False (id 1), allowed is True"),
        ({"idle": [True, False]}, "dictionary_used", "found idle True (id 0), allowed is False"),
    ],
)
def test_the_dictionarys_ids_are_named(columns, name, said):
    outcomes = checked(dictionary(**columns))
    assert failed(outcomes) == [name]
    assert said in told(outcomes)


def test_no_more_than_three_rows_are_named():
    table = pd.DataFrame({"id": range(9), "symbol": list("abcdefghi"), "rises": True, "idle": True})
    assert "found idle True (id 0), True (id 1), True (id 2), allowed" in told(checked({"dictionary": table}))


def test_a_table_without_its_column_fails_and_is_told():
    table = documents()["documents"].drop(columns="empty")
    outcomes = checked({"documents": table})
    assert failed(outcomes) == ["documents_not_empty"]
    assert "found a table that could not be checked" in told(outcomes)


def test_what_fail_on_does_not_list_only_warns():
    tables = documents(empty=2, unnamed=1)
    outcomes = checked(tables, fail_on=("documents_named",))
    assert failed(outcomes) == ["documents_named", "documents_not_empty"]
    assert [outcome.stops for outcome in outcomes if not outcome.passed] == [True, False]
    assert told(outcomes).startswith("validate: documents_named: a document lacks a name; found unnamed 1")
    assert "failed too" not in told(outcomes)
    (line,) = warnings(outcomes)
    assert line == (
        "warning: validate: documents_not_empty: a document has no characters left; "
        "found empty 2 (shard part-00000.parquet), allowed is at most 0"
    )
    nothing_stops = checked(tables, fail_on=())
    assert told(nothing_stops) is None
    assert len(warnings(nothing_stops)) == 2


def test_an_outcome_is_data_for_the_report():
    (outcome,) = [one for one in checked(documents(empty=2), fail_on=()) if not one.passed]
    assert outcome == Outcome(
        name="documents_not_empty",
        table="documents",
        passed=False,
        stops=False,
        found="empty 2 (shard part-00000.parquet)",
        allowed="at most 0",
        why="a document has no characters left",
    )


def test_contracts_may_be_checked_again():
    assert checked(documents(empty=2)) == checked(documents(empty=2))


def test_data_docs_are_on_request_and_say_what_failed(tmp_path):
    tables = documents(empty=2) | splits(test={"overlap": 0.5})
    assert checked(tables) == checked(tables, data_docs=tmp_path / "docs")
    index = (tmp_path / "docs/index.html").read_text(encoding="utf-8")
    assert ">documents</a>" in index
    assert "failed documents_not_empty. The clean documents" in index
    assert index.index("failed documents_not_empty") < index.index("failed eval_not_in_train")
    (page,) = (tmp_path / "docs/validations/splits").rglob("*.html")
    assert page.relative_to(tmp_path / "docs").as_posix() in index
    shown = page.read_text(encoding="utf-8")
    assert "eval_not_in_train: overlap: at most 0.01. Otherwise what is evaluated" in shown
    assert "<style>\nbody { font-family" in shown


def test_data_docs_say_what_only_warns(tmp_path):
    checked(documents(), fail_on=("documents_named",), data_docs=tmp_path / "docs")
    page = (tmp_path / "docs/expectations/documents.html").read_text(encoding="utf-8")
    assert page.count("Only warns: validate.fail_on does not list it.") == len(FIGURES)  # all but documents_named

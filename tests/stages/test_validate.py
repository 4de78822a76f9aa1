"""The validate stage finds each kind of corruption in the files that clean and split write."""

import json
import shutil
from collections import Counter

import numpy as np
import pytest
from support.validated import KINDS, TEXTS

from pipeline.core.errors import UserError
from pipeline.core.files import read_json
from pipeline.dataset.splits import Batch, gather
from pipeline.params.text import EXPECTATIONS
from pipeline.validation import coverage
from pipeline.validation.comparisons import read_alphabet
from pipeline.validation.contracts import MILDER
from stages import validate


@pytest.mark.parametrize("kind", KINDS)
def test_good_data_passes(make, kind, capsys):
    project = make(kind)
    assert project.failed() == []
    assert read_json(project.folder / "data/validated.json") == {"passed": True}
    figures = read_json(project.folder / "metrics/validate.json")
    assert figures.pop("overlap") == dict.fromkeys(("eval", "test") if "three sides" in kind else ("eval",), 0.0)
    assert figures == {"expectations": len(EXPECTATIONS), "failed": 0, "warned": 0}
    report = read_json(project.folder / "reports/validation.json")
    assert report["passed"]
    assert tuple(one["name"] for one in report["expectations"]) == EXPECTATIONS
    assert capsys.readouterr().err == ""


def no_documents(project):
    project.shards = [[], []]


def a_nameless_document(project):
    project.shards[0][0]["document"] = None


def documents_of_one_name(project):
    project.shards[1][-1]["document"] = project.shards[0][0]["document"]
    project.shards[1][-1]["part"] = 0
    project.shards[1][-2]["last"] = True


def a_part_that_is_lost(project):
    next(row for row in project.shards[1] if row["part"])["part"] += 5


def a_null_row(project):
    last = project.shards[0][-1]
    last["last"] = False
    project.shards[0].append(last | {"part": last["part"] + 1, "text": None, "last": True})


def an_empty_document(project):
    project.shards[0].append({"document": "empty", "part": 0, "last": True, "text": ""})


def a_character_twice(project):
    project.dictionary(lambda characters: [characters[0], *characters[:-1]])


def an_unsorted_dictionary(project):
    project.dictionary(lambda characters: characters[::-1])


def a_character_too_many(project):
    project.dictionary(lambda characters: [*characters, "Ω"])


def an_id_without_character(project):
    ids = project.array("train/ids.npy")
    ids[7] = 200
    project.put("train/ids.npy", ids)


def padding_in_the_text(project):
    ids = project.array("eval/ids.npy")
    ids[7] = 0
    project.put("eval/ids.npy", ids)


def a_longer_text(project):
    project.shards[1][-1]["text"] += "abc"


def another_fraction(project):
    project.params["split"] = project.params["split"] | {"train_fraction": 0.6}


def samples_in_another_order(project):
    samples = project.array("train/bucket_00070.npy")
    project.put("train/bucket_00070.npy", samples[[1, 0, *range(2, len(samples))]])


def a_sample_beyond_the_text(project):
    samples = project.array("eval/bucket_00070.npy")
    project.put("eval/bucket_00070.npy", np.concatenate([samples, [[1_000_000, 10]]]))


def a_lost_sample(project):
    project.put("train/bucket_00070.npy", project.array("train/bucket_00070.npy")[1:])


def a_sample_twice(project):
    samples = project.array("eval/bucket_00070.npy")
    project.put("eval/bucket_00070.npy", np.concatenate([samples[:1], samples]))


def documents_listed_elsewhere(project):
    starts = project.array("train/documents.npy")
    starts[3] += 1
    project.put("train/documents.npy", starts)


def a_sample_over_an_end(project):
    start = project.array("train/documents.npy")[1] - 1
    samples = np.concatenate([project.array("train/bucket_00070.npy"), [[start, 1]]])
    project.put("train/bucket_00070.npy", samples[np.argsort(samples[:, 0], kind="stable")])


def some_copied_eval_text(project):
    ids = project.array("eval/ids.npy")
    ids[100:250] = project.array("train/ids.npy")[1000:1150]
    project.put("eval/ids.npy", ids)


def eval_text_that_is_mostly_a_copy(project):
    ids = project.array("eval/ids.npy")
    size = len(ids) * 2 // 3
    ids[:size] = project.array("train/ids.npy")[1000 : 1000 + size]
    project.put("eval/ids.npy", ids)


def a_document_on_both_sides(project):
    """Give all documents of the same length the same text, so that one is in train and eval."""
    documents = {}
    for row in [*project.shards[0], *project.shards[1]]:
        documents.setdefault(row["document"], []).append(row)
    first_of = {}
    for rows in documents.values():
        as_long = first_of.setdefault(tuple(len(row["text"]) for row in rows), rows)
        for row, other in zip(rows, as_long, strict=True):
            row["text"] = other["text"]


def too_little_for_a_batch(project):
    project.params["train"] = {"batch_size": 2000}


def too_little_for_a_window(project):
    project.params["evaluate"] = {"window": 2000}


# A corruption, the kind of split, and the expectations that fail: only one, where that is possible.
CORRUPTIONS = [
    (no_documents, "stream", ["documents_present", "whole_text_split"]),
    (a_nameless_document, "stream", ["documents_named"]),
    (documents_of_one_name, "documents", ["documents_distinct"]),
    (a_part_that_is_lost, "stream", ["documents_whole"]),
    (a_null_row, "stream", ["documents_have_text"]),
    (an_empty_document, "documents", ["documents_not_empty"]),
    (a_character_twice, "stream", ["dictionary_distinct", "dictionary_sorted"]),
    (an_unsorted_dictionary, "stream", ["dictionary_sorted"]),
    (an_unsorted_dictionary, "documents", ["dictionary_sorted"]),
    (a_character_too_many, "stream", ["dictionary_used"]),
    (a_character_too_many, "documents", ["dictionary_used"]),
    (an_id_without_character, "stream", ["ids_within_dictionary"]),
    (an_id_without_character, "documents", ["ids_within_dictionary"]),
    (padding_in_the_text, "stream", ["no_padding_in_text"]),
    (padding_in_the_text, "documents", ["no_padding_in_text"]),
    (a_longer_text, "stream", ["whole_text_split"]),
    (a_longer_text, "documents", ["whole_text_split"]),
    (a_longer_text, "lines", ["whole_text_split"]),
    (another_fraction, "stream", ["fractions_as_asked"]),
    (another_fraction, "documents", ["fractions_as_asked"]),
    (another_fraction, "three sides", ["fractions_as_asked"]),
    (samples_in_another_order, "documents", ["samples_in_order"]),
    (a_sample_beyond_the_text, "documents", ["samples_within_text"]),
    (a_lost_sample, "documents", ["every_character_labelled"]),
    (a_sample_twice, "documents", ["no_character_labelled_twice"]),
    (documents_listed_elsewhere, "documents", ["documents_bounded"]),
    (a_sample_over_an_end, "documents", ["no_begin_labelled"]),
    (a_document_on_both_sides, "documents' names", ["no_document_on_both_sides"]),
    (a_document_on_both_sides, "documents on three sides", ["no_document_on_both_sides"]),
    (eval_text_that_is_mostly_a_copy, "stream", ["eval_not_in_train", "overlap_is_low"]),
    (eval_text_that_is_mostly_a_copy, "three sides", ["eval_not_in_train", "overlap_is_low"]),
    (too_little_for_a_batch, "stream", ["train_fills_a_batch"]),
    (too_little_for_a_batch, "documents", ["train_fills_a_batch"]),
    (too_little_for_a_window, "stream", ["eval_fills_a_window"]),
    (too_little_for_a_window, "documents", ["eval_fills_a_window"]),
]


@pytest.mark.parametrize(
    ("corrupt", "kind", "names"), CORRUPTIONS, ids=[f"{one[0].__name__} of {one[1]}" for one in CORRUPTIONS]
)
def test_a_corruption_fails_its_expectation(make, corrupt, kind, names):
    project = make(kind)
    corrupt(project)
    assert project.failed() == names
    assert project.line.startswith(f"validate: {names[0]}: ")
    assert "; found " in project.line
    assert ", allowed is " in project.line
    assert "\n" not in project.line
    assert not (project.folder / "data/validated.json").exists()
    assert not read_json(project.folder / "reports/validation.json")["passed"]
    assert read_json(project.folder / "metrics/validate.json")["failed"] == len(set(names) - set(MILDER))


def test_equal_documents_are_allowed_when_the_text_is_cut_by_position(make):
    project = make("stream")
    a_document_on_both_sides(project)
    assert project.failed() == []


def test_some_overlap_is_reported_with_a_warning(make, capsys):
    project = make("stream")
    some_copied_eval_text(project)
    assert project.failed() == ["overlap_is_low"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: validate: overlap_is_low: some of the eval or test text occurs word for word")
    assert read_json(project.folder / "data/validated.json") == {"passed": True}
    assert read_json(project.folder / "metrics/validate.json")["warned"] == 1
    substrings = len(project.array("eval/ids.npy")) - 49
    share = read_json(project.folder / "metrics/validate.json")["overlap"]["eval"]
    assert share == pytest.approx(101 / substrings, abs=1e-6)


@pytest.mark.parametrize("kind", ["stream", "documents"])
def test_labels_are_checked_in_real_training_batches(make, kind, monkeypatch):
    def late(*arguments):
        batch = gather(*arguments)
        return Batch(inputs=batch.inputs, labels=batch.inputs)

    project = make(kind)
    monkeypatch.setattr(coverage, "gather", late)
    assert project.failed() == ["labels_one_on"]


def test_every_expectation_has_a_corruption():
    assert {names[0] for _, _, names in CORRUPTIONS} | {"labels_one_on", *MILDER} == set(EXPECTATIONS)


def test_expectations_not_in_fail_on_only_warn(make, capsys):
    project = make("stream")
    project.params["validate"]["fail_on"] = ["documents_named"]
    a_longer_text(project)
    assert project.failed() == ["whole_text_split"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "warning: validate: whole_text_split: part of the clean text is in no split, or in a split twice; "
        "found lost_chars 3, expected at most 0"
    )
    assert read_json(project.folder / "data/validated.json") == {"passed": True}
    report = read_json(project.folder / "reports/validation.json")
    assert report["passed"]
    assert {one["name"] for one in report["expectations"] if one["stops"]} == {"documents_named"}
    assert read_json(project.folder / "metrics/validate.json")["warned"] == 1


def test_a_failure_removes_the_mark_of_an_earlier_success_and_still_shows_warnings(make, capsys):
    project = make("stream")
    project.params["validate"]["fail_on"] = ["documents_named"]
    assert project.failed() == []
    a_longer_text(project)
    a_nameless_document(project)
    assert project.failed() == ["documents_named", "whole_text_split"]
    assert "failed too" not in project.line
    assert "warning: validate: whole_text_split" in capsys.readouterr().err
    assert not (project.folder / "data/validated.json").exists()


def test_data_docs_are_written_if_enabled_and_otherwise_removed(make):
    project = make("stream")
    project.params["validate"]["data_docs"] = True
    assert project.failed() == []
    index = (project.folder / "reports/data_docs/index.html").read_text(encoding="utf-8")
    assert f"<title>{len(EXPECTATIONS)} expectations: 0 failed, 0 warned</title>" in index
    project.params["validate"]["data_docs"] = False
    assert project.failed() == []
    assert not (project.folder / "reports/data_docs").exists()


@pytest.mark.parametrize("lost", ["train", "eval"])
def test_a_missing_split_is_named(make, lost):
    project = make("stream")
    project.write()
    shutil.rmtree(project.folder / "data/split" / lost)
    with pytest.raises(UserError, match=rf"data/split/{lost}/samples.json: missing.*`dvc repro` or `dvc checkout`"):
        validate.main()


def test_the_alphabet_counts_the_characters_of_the_text(make):
    project = make("documents")
    assert project.failed() == []
    lines = (project.folder / "reports/alphabet.csv").read_text(encoding="utf-8").splitlines()
    assert read_alphabet(lines) == Counter("".join(TEXTS))


def test_the_report_is_the_same_every_time(make):
    project = make("documents")
    a_lost_sample(project)
    assert project.failed() == ["every_character_labelled"]
    before = project.outputs()
    assert json.loads(before["reports/validation.json"])["expectations"]
    project.failed()
    assert project.outputs() == before

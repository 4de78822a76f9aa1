"""Contracts over small facts tables; tests/stages/test_validate.py breaks them by what is wrong in real files."""

import re

import pandas as pd
import pytest

from pipeline.params.text import EXPECTATIONS
from pipeline.validation.contracts import KEYS, TABLES, Bounds, contracts
from pipeline.validation.expectations import Outcome, check, format_failures, format_warnings

ALL = contracts(Bounds(dictionary_size=9, batch_size=8, window=20, warn_overlap=0.01, max_overlap=0.5))
DOCUMENTS = {"shard": "part-00000.parquet", "documents": 3}
FIGURES = ["unnamed", "repeated", "broken", "without_text", "empty"]
SPLIT = {
    "max_id": 8,
    "min_id": 1,
    "misplaced_chars": 0,
    "unlabelled": 0,
    "repeated": 0,
    "unbounded": 0,
    "copied_documents": 0,
}
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
    assert (format_failures(outcomes), format_warnings(outcomes)) == (None, [])
    assert [outcome.name for outcome in outcomes] == [one.name for one in ALL if one.table in {"documents", "splits"}]


@pytest.mark.parametrize(
    ("rows", "name", "found"),
    [
        ({"train": {"max_id": 9}}, "ids_within_dictionary", "max_id 9 (split train)"),
        ({"eval": {"min_id": 0}}, "no_padding_in_text", "min_id 0 (split eval)"),
        ({"test": {"overlap": 0.5}}, "overlap_is_low", "overlap 0.5 (split test)"),
        (
            {"eval": {"overlap": 0.5}, "test": {"overlap": 1 / 3}},
            "overlap_is_low",
            "overlap 0.5 (split eval), 0.3333 (split test)",
        ),
        ({"test": {"copied_documents": 2}}, "no_document_on_both_sides", "copied_documents 2 (split test)"),
        ({"train": {"samples": 7}}, "train_fills_a_batch", "samples 7 (split train)"),
        ({"eval": {"chars": 20}}, "eval_fills_a_window", "chars 20 (split eval)"),
        ({"test": {"chars": 3}}, "eval_fills_a_window", "chars 3 (split test)"),
    ],
)
def test_what_is_found_is_said_with_its_row(rows, name, found):
    outcomes = checked(splits(**rows))
    assert failed(outcomes) == [name]
    assert next(outcome.found for outcome in outcomes if outcome.name == name) == found


def test_the_line_for_people():
    assert format_failures(checked(documents(empty=2))) == (
        "validate: documents_not_empty: a document has no characters left; "
        "found empty 2 (shard part-00000.parquet), allowed is at most 0"
    )
    assert format_failures(checked(documents(documents=0))) == (
        "validate: documents_present: there is no text; found 0, allowed is at least 1"
    )


def test_the_first_failure_is_told_in_full_and_the_others_by_name():
    line = format_failures(checked(documents(empty=2, unnamed=1, repeated=1)))
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
    assert said in format_failures(outcomes)


def test_no_more_than_three_rows_are_named():
    table = pd.DataFrame({"id": range(9), "symbol": list("abcdefghi"), "rises": True, "idle": True})
    assert "found idle True (id 0), True (id 1), True (id 2), allowed" in format_failures(
        checked({"dictionary": table})
    )


def test_a_table_without_its_column_fails_and_is_told():
    table = documents()["documents"].drop(columns="empty")
    outcomes = checked({"documents": table})
    assert failed(outcomes) == ["documents_not_empty"]
    assert "found a table that could not be checked" in format_failures(outcomes)


def test_what_fail_on_does_not_list_only_warns():
    tables = documents(empty=2, unnamed=1)
    outcomes = checked(tables, fail_on=("documents_named",))
    assert failed(outcomes) == ["documents_named", "documents_not_empty"]
    assert [outcome.stops for outcome in outcomes if not outcome.passed] == [True, False]
    assert format_failures(outcomes).startswith("validate: documents_named: a document lacks a name; found unnamed 1")
    assert "failed too" not in format_failures(outcomes)
    (line,) = format_warnings(outcomes)
    assert line == (
        "warning: validate: documents_not_empty: a document has no characters left; "
        "found empty 2 (shard part-00000.parquet), expected at most 0"
    )
    nothing_stops = checked(tables, fail_on=())
    assert format_failures(nothing_stops) is None
    assert len(format_warnings(nothing_stops)) == 2


def test_a_low_overlap_passes_some_warns_and_most_stops():
    def at(share, **options):
        outcomes = checked(splits(eval={"overlap": share}), **options)
        return failed(outcomes), format_failures(outcomes), format_warnings(outcomes)

    assert at(0.01) == ([], None, [])
    names, stopped, (line,) = at(0.037)
    assert (names, stopped) == (["overlap_is_low"], None)
    assert "validate: overlap_is_low: some of the eval or test text occurs word for word" in line
    assert line.endswith("found overlap 0.037 (split eval), expected at most 0.01")
    names, stopped, warned = at(0.51)
    assert (names, warned) == (["eval_not_in_train", "overlap_is_low"], [])  # one line says it
    assert "eval_not_in_train: most of the eval or test text" in stopped
    assert "found overlap 0.51 (split eval), allowed is at most 0.5" in stopped
    assert "overlap_is_low" in at(0.037, fail_on=("overlap_is_low",))[1]  # stops on request
    assert len(at(0.51, fail_on=())[2]) == 2


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
    tables = documents(empty=2) | splits(test={"overlap": 0.6})
    assert checked(tables) == checked(tables, data_docs=tmp_path / "docs")
    index = (tmp_path / "docs/index.html").read_text(encoding="utf-8")
    assert ">documents</a>" in index
    assert "<title>18 expectations: 2 failed, 1 warned</title>" in index
    assert '<td class="mark failed"></td><td>documents not empty<br><span class="why">a document has no' in index
    assert '<td class="mark failed"></td><td>eval not in train<br>' in index
    assert '<td class="mark warned"></td><td>overlap is low<br>' in index
    (page,) = (tmp_path / "docs/validations/splits").rglob("*.html")
    assert page.relative_to(tmp_path / "docs").as_posix() in index
    shown = page.read_text(encoding="utf-8")
    assert "<title>splits: not as expected: eval not in train, overlap is low</title>" in shown
    assert re.search(r"<h5[^>]*>\s*eval not in train, overlap is low\s*</h5>", shown)  # not: overlap
    assert "eval not in train: overlap is at most 0.5. Otherwise most of the eval or test text" in shown
    assert "Table: splits" in shown
    assert "None" not in shown


def test_data_docs_load_nothing_from_elsewhere(tmp_path):
    checked(documents(empty=2) | splits(), data_docs=tmp_path / "docs")
    pages = sorted((tmp_path / "docs").rglob("*.html"))
    assert len(pages) == 1 + 2 * 2
    for path in pages:
        page = path.read_text(encoding="utf-8")
        assert "://" not in page, path
        assert "<script" not in page, path
        links = re.findall(r'(?:href|src)="([^"#]+)', page)
        assert [one for one in links if not (path.parent / one).is_file()] == []
        assert "font: 15px" in page, path


def test_data_docs_say_what_only_warns(tmp_path):
    checked(documents(), fail_on=("documents_named",), data_docs=tmp_path / "docs")
    page = (tmp_path / "docs/expectations/documents.html").read_text(encoding="utf-8")
    assert page.count("Only warns: a failure does not stop the pipeline.") == len(FIGURES)  # all but documents_named


@pytest.mark.parametrize("name", ["$HOME", "a $UNSET ${x} b", "costs 5$", r"back\$slash", "%(a)s {b}"])
def test_data_docs_in_a_folder_whose_name_looks_like_a_variable(tmp_path, name):
    checked(documents(), data_docs=tmp_path / name / "docs")
    assert (tmp_path / name / "docs/index.html").exists()
    assert [path.name for path in tmp_path.iterdir()] == [name]

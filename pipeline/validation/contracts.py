"""What must hold of the data before a training starts, as Great Expectations over the facts tables, with reasons.

A contract knows tables by name and columns by name; it never sees text. The tables are those of `document_facts` and of
`dataset/facts.py`.
"""

from dataclasses import dataclass

import great_expectations.expectations as gxe
from great_expectations.expectations.expectation import Expectation

# The facts tables in words, for the Data Docs.
TABLES = {
    "documents": "The clean documents, one row for each file of the table in data/clean.",
    "text": "The clean text, and what the splits hold of it, one row.",
    "dictionary": "The dictionary, one row for each id.",
    "splits": "The splits train, eval and, if there is one, test, one row for each.",
    "buckets": "The samples, one row for each split and bucket.",
}


# The columns that name a row of them.
KEYS = {"documents": ["shard"], "text": [], "dictionary": ["id"], "splits": ["split"], "buckets": ["split", "bucket"]}

# Contracts that only warn under `fail_on: all`, each with the stricter one that says the same, and stops.
MILDER = {"overlap_is_low": "eval_not_in_train"}


@dataclass(frozen=True)
class Contract:
    """One expectation on one facts table; `why` says what would go wrong, or what to do, when it fails."""

    name: str
    table: str
    expectation: Expectation
    why: str


@dataclass(frozen=True)
class Bounds:
    """What the contracts take from params: see the groups split, validate, train and evaluate."""

    dictionary_size: int
    batch_size: int
    window: int
    warn_overlap: float
    max_overlap: float


def contracts(bounds: Bounds) -> list[Contract]:
    """Return all contracts, in the order in which they are checked and told: that of EXPECTATIONS."""
    return [*_documents(), *_dictionary(), *_ids(bounds), *_samples(), *_enough(bounds)]


def _documents() -> list[Contract]:
    table = "documents"
    return [
        Contract(
            "documents_present",
            table,
            gxe.ExpectColumnSumToBeBetween(column="documents", min_value=1),
            "there is no text",
        ),
        Contract("documents_named", table, _none("unnamed"), "a document lacks a name"),
        Contract(
            "documents_distinct",
            table,
            _none("repeated"),
            "two documents have the same name, and would be drawn to a side together",
        ),
        Contract(
            "documents_whole",
            table,
            _none("broken"),
            "a document's rows do not follow each other up to its last one, so another text would be put together",
        ),
        Contract("documents_have_text", table, _none("without_text"), "a document's text is null"),
        Contract("documents_not_empty", table, _none("empty"), "a document has no characters left"),
    ]


def _dictionary() -> list[Contract]:
    table = "dictionary"
    return [
        Contract(
            "dictionary_distinct",
            table,
            gxe.ExpectColumnValuesToBeUnique(column="symbol"),
            "two ids stand for the same character",
        ),
        Contract(
            "dictionary_sorted",
            table,
            gxe.ExpectColumnValuesToBeInSet(column="rises", value_set=[True]),
            "the ids of another run would mean other characters",
        ),
        Contract(
            "dictionary_used",
            table,
            gxe.ExpectColumnValuesToBeInSet(column="idle", value_set=[False]),
            "a character of the dictionary stands nowhere in the text",
        ),
    ]


def _ids(bounds: Bounds) -> list[Contract]:
    return [
        Contract(
            "ids_within_dictionary",
            "splits",
            gxe.ExpectColumnValuesToBeBetween(column="max_id", max_value=bounds.dictionary_size - 1),
            "an id has no character",
        ),
        Contract(
            "no_padding_in_text",
            "splits",
            gxe.ExpectColumnValuesToBeBetween(column="min_id", min_value=1),
            "padding stands in the text",
        ),
        Contract(
            "whole_text_split", "text", _none("lost_chars"), "part of the clean text is in no split, or in one twice"
        ),
        Contract(
            "fractions_as_asked",
            "splits",
            _none("misplaced_chars"),
            "the text was not cut at split.train_fraction and split.test_fraction",
        ),
    ]


def _samples() -> list[Contract]:
    splits, buckets = "splits", "buckets"
    return [
        Contract("samples_in_order", buckets, _none("out_of_order"), "a sample starts before the one ahead of it"),
        Contract(
            "samples_within_text", buckets, _none("out_of_range"), "a sample reaches beyond the text or its bucket"
        ),
        Contract("every_character_labelled", splits, _none("unlabelled"), "part of the text would never be predicted"),
        Contract("no_character_labelled_twice", splits, _none("repeated"), "samples overlap"),
        Contract(
            "documents_bounded",
            splits,
            _none("unbounded"),
            "a document does not stand between a begin and an end symbol, so its bounds could not be learnt",
        ),
        Contract(
            "no_begin_labelled",
            splits,
            _none("labelled_begins"),
            "a sample goes over a document's end, and the next begin would be predicted from it",
        ),
        Contract("labels_one_on", buckets, _none("misplaced_labels"), "a label is not the character after its input"),
    ]


def _enough(bounds: Bounds) -> list[Contract]:
    return [
        Contract(
            "no_document_on_both_sides",
            "splits",
            _none("copied_documents"),
            "a whole eval or test document is in the training text too; set clean.duplicates to drop",
        ),
        Contract(
            "eval_not_in_train",
            "splits",
            gxe.ExpectColumnValuesToBeBetween(column="overlap", max_value=bounds.max_overlap),
            "most of the eval or test text occurs in the training text, so the perplexity would measure memory; remove "
            "the copies, choose another split.by, or raise validate.max_overlap",
        ),
        Contract(
            "overlap_is_low",
            "splits",
            gxe.ExpectColumnValuesToBeBetween(column="overlap", max_value=bounds.warn_overlap),
            "some of the eval or test text occurs word for word in the training text, so the perplexity is somewhat "
            "too low (validate.warn_overlap)",
        ),
        Contract(
            "train_fills_a_batch",
            "splits",
            _least("samples", bounds.batch_size, 'split == "train"'),
            f"the text is too short for one batch of train.batch_size {bounds.batch_size}: use more text, a smaller "
            "batch or shorter split.buckets",
        ),
        Contract(
            "eval_fills_a_window",
            "splits",
            _least("chars", bounds.window + 1, 'split != "train"'),
            f"the eval or test text is too short for one window of evaluate.window {bounds.window}: use more text or "
            "a smaller split.train_fraction",
        ),
    ]


def _none(column: str) -> Expectation:
    """Nothing of what `column` counts."""
    return gxe.ExpectColumnValuesToBeBetween(column=column, max_value=0)


def _least(column: str, least: int, rows: str) -> Expectation:
    return gxe.ExpectColumnValuesToBeBetween(
        column=column, min_value=least, row_condition=rows, condition_parser="pandas"
    )

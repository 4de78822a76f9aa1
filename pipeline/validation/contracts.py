"""Defines what the data must fulfil before training starts: expectations on tables of measurements, with reasons.

The tables are built in `facts.py`. A contract refers to tables and columns by name and never reads the text itself.
"""

from dataclasses import dataclass

import great_expectations.expectations as gxe
from great_expectations.expectations.expectation import Expectation

# What each table holds, for the Data Docs.
TABLES = {
    "documents": "The clean documents, one row per file in data/clean.",
    "text": "The size of the clean text and of all splits together, one row.",
    "dictionary": "The dictionary, one row per id.",
    "splits": "The splits train, eval and, if there is one, test, one row per split.",
    "buckets": "The samples, one row per split and bucket.",
}


# The columns that identify a row.
KEYS = {"documents": ["shard"], "text": [], "dictionary": ["id"], "splits": ["split"], "buckets": ["split", "bucket"]}

# Contracts that only warn under `fail_on: all`. Each maps to the stricter contract on the same figure, which stops.
MILDER = {"overlap_is_low": "eval_not_in_train"}


@dataclass(frozen=True)
class Contract:
    """One expectation on one table. `why` is the reason in words: what would go wrong, or what to do about it."""

    name: str
    table: str
    expectation: Expectation
    why: str


@dataclass(frozen=True)
class Bounds:
    """The limits that come from params (groups validate, train and evaluate) and from the dictionary."""

    dictionary_size: int
    batch_size: int
    window: int
    warn_overlap: float
    max_overlap: float


def contracts(bounds: Bounds) -> list[Contract]:
    """Return all contracts in the order in which they are checked and reported, that of EXPECTATIONS."""
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
            "two documents have the same name, so they would always be in the same split",
        ),
        Contract(
            "documents_whole",
            table,
            _none("broken"),
            "a document's rows are not consecutive up to its last one, so joining them would give another text",
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
            "two ids are the same character",
        ),
        Contract(
            "dictionary_sorted",
            table,
            gxe.ExpectColumnValuesToBeInSet(column="rises", value_set=[True]),
            "the characters are not sorted, so another run could give them other ids",
        ),
        Contract(
            "dictionary_used",
            table,
            gxe.ExpectColumnValuesToBeInSet(column="idle", value_set=[False]),
            "a character of the dictionary never occurs in the text",
        ),
    ]


def _ids(bounds: Bounds) -> list[Contract]:
    return [
        Contract(
            "ids_within_dictionary",
            "splits",
            gxe.ExpectColumnValuesToBeBetween(column="max_id", max_value=bounds.dictionary_size - 1),
            "an id is not in the dictionary",
        ),
        Contract(
            "no_padding_in_text",
            "splits",
            gxe.ExpectColumnValuesToBeBetween(column="min_id", min_value=1),
            "the text contains padding",
        ),
        Contract(
            "whole_text_split",
            "text",
            _none("lost_chars"),
            "part of the clean text is in no split, or in a split twice",
        ),
        Contract(
            "fractions_as_asked",
            "splits",
            _none("misplaced_chars"),
            "the sizes of the splits do not match split.train_fraction and split.test_fraction",
        ),
    ]


def _samples() -> list[Contract]:
    splits, buckets = "splits", "buckets"
    return [
        Contract("samples_in_order", buckets, _none("out_of_order"), "a sample starts before the previous one"),
        Contract(
            "samples_within_text", buckets, _none("out_of_range"), "a sample reaches beyond the text or its bucket"
        ),
        Contract("every_character_labelled", splits, _none("unlabelled"), "part of the text would never be predicted"),
        Contract("no_character_labelled_twice", splits, _none("repeated"), "samples overlap"),
        Contract(
            "documents_bounded",
            splits,
            _none("unbounded"),
            "a document lacks its begin or end symbol, so the model could not learn where texts begin and end",
        ),
        Contract(
            "no_begin_labelled",
            splits,
            _none("labelled_begins"),
            "a sample continues into the next document, whose begin symbol would be predicted",
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
            "most of the eval or test text occurs in the training text, so the perplexity would measure "
            "memorisation; remove the copies, choose another split.by, or raise validate.max_overlap",
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
    """Expect that `column`, a count of faults, is 0."""
    return gxe.ExpectColumnValuesToBeBetween(column=column, max_value=0)


def _least(column: str, least: int, rows: str) -> Expectation:
    return gxe.ExpectColumnValuesToBeBetween(
        column=column, min_value=least, row_condition=rows, condition_parser="pandas"
    )

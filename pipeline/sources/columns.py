"""Which columns of a table to read, and the types of metadata columns."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from pipeline.core.errors import UserError
from pipeline.params.text import DataParams

# Rows are read whole. A longer one means a file without line ends, or a quote that is never closed.
LONGEST_ROW = 256 << 20


@dataclass(frozen=True)
class ColumnSelection:
    """The columns that params name: of the text, of the documents' names (or None), and of metadata."""

    text: str
    id: str | None
    metadata: tuple[str, ...]

    @classmethod
    def by(cls, params: DataParams) -> "ColumnSelection":
        """Return the columns that `data` names."""
        return cls(params.text_column, params.id_column, params.metadata)

    @property
    def names(self) -> list[str]:
        """All of these columns, each once, the text first."""
        return list(dict.fromkeys([self.text, *([self.id] if self.id else []), *self.metadata]))

    def key(self, name: str) -> str:
        """Return the params key that names the column `name`."""
        if name == self.text:
            return "data.text_column"
        return "data.id_column" if name == self.id else "data.metadata"

    def check(
        self, found: Iterable[str], file: str, *, seen: Collection[str] = (), separated_by: str | None = None
    ) -> None:
        """Refuse the table `file` with the columns `found` if one is missing or occurs twice; `seen` are present.

        `separated_by` names the separator of a CSV file, for the message.
        """
        columns = list(found)
        for name in self.names:
            if name in seen:
                continue
            if columns.count(name) > 1:
                raise UserError(f"{self.key(name)}: {file} has {columns.count(name)} columns {name!r}; allowed is one")
            if name not in columns:
                shown = ", ".join(columns[:20]) + (", …" if len(columns) > 20 else "")
                separator = f" (separated by {separated_by})" if separated_by else ""
                raise UserError(
                    f"{self.key(name)}: {file} has no column {name!r}; allowed are {shown or 'none'}{separator}"
                )


def row_too_long(file: str) -> UserError:
    """Return the error to raise for a row of more than LONGEST_ROW bytes."""
    return UserError(
        f"data.source: {file}: a row of more than {LONGEST_ROW >> 20} MiB; is a line end or a closing quote missing?"
    )


TYPES = {"null": pa.null(), "bool": pa.bool_(), "int64": pa.int64(), "double": pa.float64(), "string": pa.string()}
NUMBERS = ("int64", "double")


def plain_type(kind: pa.DataType, column: str) -> str:
    """Return the type of metadata, one of TYPES, for a column of Arrow type `kind`.

    UserError for lists, structures and bytes; its message begins with `column`, the params key and the column.
    """
    if pt.is_dictionary(kind):
        return plain_type(kind.value_type, column)
    for name, belongs in (
        ("null", pt.is_null),
        ("bool", pt.is_boolean),
        ("double", lambda one: pt.is_floating(one) or pt.is_decimal(one) or pt.is_uint64(one)),
        ("int64", pt.is_integer),
        ("string", lambda one: is_string(one) or pt.is_temporal(one)),
    ):
        if belongs(kind):
            return name
    raise UserError(f"{column} has type {kind}; allowed are numbers, true and false, strings, dates and times")


def is_string(kind: pa.DataType) -> bool:
    """Return whether values of type `kind` are text."""
    return bool(pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind))


def wider(one: str, other: str) -> str:
    """Return the narrowest type that can represent the values of both."""
    if other in {one, "null"}:
        return one
    if one == "null":
        return other
    return "double" if one in NUMBERS and other in NUMBERS else "string"


def widest(types: list[str]) -> pa.DataType:
    """Return the Arrow type that can represent all of `types`; string for a column without any value."""
    name = reduce(wider, types, "null")
    return TYPES["string" if name == "null" else name]


def written_type(values: pa.Array, at_least: str = "null") -> str:
    """Return the narrowest type as which the strings `values` can be parsed, and that includes `at_least`."""
    found = (
        "null"
        if values.null_count == len(values)
        else next(name for name in ("int64", "double", "bool", "string") if _parses_as(values, name))
    )
    return wider(at_least, found)


def as_type(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return `values` as the Arrow type `kind`, one of TYPES that can represent them."""
    if pt.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pt.is_string(kind) and pt.is_timestamp(values.type):
        if values.type.tz is not None:
            values = values.cast(pa.timestamp(values.type.unit, "UTC"))
        return pc.replace_substring(values.cast(kind), " ", "T", max_replacements=1)
    if pt.is_integer(kind):
        return values.cast(kind)
    return values.cast(kind, safe=False)


def _parses_as(values: pa.Array, name: str) -> bool:
    try:
        values.cast(TYPES[name])
    except pa.ArrowInvalid:
        return False
    return True

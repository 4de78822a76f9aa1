"""The types of metadata columns: four of them, found from what a source's own columns hold.

int64, double, bool and string; dates and times are strings as ISO 8601 has them. A column without any value is null
until another file of the source knows better.
"""

from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from pipeline.errors import UserError

TYPES = {"null": pa.null(), "bool": pa.bool_(), "int64": pa.int64(), "double": pa.float64(), "string": pa.string()}
NUMBERS = ("int64", "double")


def plain_type(kind: pa.DataType, told: str) -> str:
    """Return which of the four (or "null") stands for a column of type `kind`.

    UserError for lists, structures and bytes; `told` names the column.
    """
    if pt.is_dictionary(kind):
        return plain_type(kind.value_type, told)
    for name, belongs in (
        ("null", pt.is_null),
        ("bool", pt.is_boolean),
        ("double", lambda one: pt.is_floating(one) or pt.is_decimal(one) or pt.is_uint64(one)),
        ("int64", pt.is_integer),
        ("string", lambda one: is_string(one) or pt.is_temporal(one)),
    ):
        if belongs(kind):
            return name
    raise UserError(f"{told} holds {kind}; allowed are numbers, true and false, strings, dates and times")


def is_string(kind: pa.DataType) -> bool:
    """Return whether values of type `kind` are text."""
    return bool(pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind))


def wider(one: str, other: str) -> str:
    """Return the type that holds the values of both."""
    if other in {one, "null"}:
        return one
    if one == "null":
        return other
    return "double" if one in NUMBERS and other in NUMBERS else "string"


def widest(types: list[str]) -> pa.DataType:
    """Return the Arrow type that holds all of `types`; a column without any value is one of strings."""
    name = reduce(wider, types, "null")
    return TYPES["string" if name == "null" else name]


def written_type(values: pa.Array, at_least: str = "null") -> str:
    """Return the narrowest type that the strings `values` can be read as, and that holds `at_least` too."""
    found = (
        "null"
        if values.null_count == len(values)
        else next(name for name in ("int64", "double", "bool", "string") if _reads_as(values, name))
    )
    return wider(at_least, found)


def as_type(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return `values` as the Arrow type `kind`, one of the four that holds them."""
    if pt.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pt.is_string(kind) and pt.is_timestamp(values.type):
        if values.type.tz is not None:
            values = values.cast(pa.timestamp(values.type.unit, "UTC"))
        return pc.replace_substring(values.cast(kind), " ", "T", max_replacements=1)
    if pt.is_integer(kind):
        return values.cast(kind)
    return values.cast(kind, safe=False)


def _reads_as(values: pa.Array, name: str) -> bool:
    try:
        values.cast(TYPES[name])
    except pa.ArrowInvalid:
        return False
    return True

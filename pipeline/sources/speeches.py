"""The default corpus: State of the Union addresses from the package `sotu`, one document for each speech."""

from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

import pyarrow as pa

from pipeline.core.errors import UserError
from pipeline.params.text import SOTU, DataParams, Select
from pipeline.text.documents import Row, rows_of

# The metadata of every speech, which the documents table has whether or not `data.metadata` lists it.
METADATA = {"year": pa.int64(), "date": pa.string(), "speaker": pa.string(), "party": pa.string()}


def describe_speeches(params: DataParams) -> dict[str, Any]:
    """Return the package's version and the selection, which identify the texts: those of a version never change."""
    check_speeches(params)
    return {"source": SOTU, "version": version("sotu"), "select": params.select.model_dump()}


def check_speeches(params: DataParams) -> None:
    """Refuse columns that the corpus does not have."""
    for name in params.metadata:
        if name not in METADATA:
            raise UserError(f"data.metadata: found {name!r}, allowed for sotu are {', '.join(METADATA)}")
    if params.id_column is not None:
        raise UserError(f"data.id_column: found {params.id_column!r}, allowed for sotu is null: speeches have names")


def speeches(select: Select, progress: Callable[[int], None]) -> Iterator[Row]:
    """Yield the speeches that `select` matches, in order; UserError if there are none.

    `progress` is called with the number of bytes of each speech.
    """
    import sotu  # it imports pandas, which takes 0.5 s

    found = False
    for row in sotu.metadata().sort_values("fileid").to_dict("records"):
        if not _matches(select, row):
            continue
        found = True
        text = sotu.raw(row["fileid"]).encode()
        progress(len(text))
        metadata = {
            "year": int(row["year"]),
            "date": str(row["date"]),
            "speaker": row["president_full"],
            "party": row["party"],
        }
        yield from rows_of(row["fileid"], [text], metadata)
    if not found:
        raise UserError(f"data.select: no speech of sotu matches {select.model_dump(exclude_none=True)}")


def _matches(select: Select, row: dict[str, Any]) -> bool:
    year = int(row["year"])
    return (
        (select.first_year is None or year >= select.first_year)
        and (select.last_year is None or year <= select.last_year)
        and (select.party is None or row["party"] == select.party)
        and (select.president is None or row["president"] == select.president)
    )

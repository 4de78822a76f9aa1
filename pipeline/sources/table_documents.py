"""Reads tables in blocks of the selected columns, and turns these into documents: one for each row with a text.

A block has a few megabytes, so that memory stays flat; a row may have up to LONGEST_ROW bytes.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.errors import UserError
from pipeline.params.text import DataParams
from pipeline.sources.columns import ColumnSelection, as_type
from pipeline.sources.csv_rows import csv_blocks, find_separator
from pipeline.sources.decoding import INSTEAD, NUL, decode
from pipeline.sources.files import Allowance, Meter, SourceFile, open_seekable, read_chunks
from pipeline.sources.typed_rows import json_blocks, parquet_blocks
from pipeline.text.documents import BASE, BATCH_BYTES, PIECE_BYTES, batches_of, rows_of

# The usual separator of the cells of a file with this ending.
USUAL_SEPARATOR = {"csv": ",", "tsv": "\t"}


def separator_of(file: SourceFile, params: DataParams) -> str | None:
    """Return the separator of the cells of `file`; None if it is the usual one or the file is not CSV or TSV."""
    usual = USUAL_SEPARATOR.get(file.kind)
    if usual is None:
        return None
    chunks = read_chunks(file, Meter(Allowance(params), lambda _: None))
    text = decode(chunks, file.name, params.encoding, params.errors)
    found = find_separator(text, file.name, ColumnSelection.by(params), usual=usual)
    return None if found == usual else found


def blocks_of(file: SourceFile, params: DataParams, meter: Meter, *, scratch: Path) -> Iterator[pa.RecordBatch]:
    """Yield the selected columns of the table `file`, counted by `meter`; `scratch` is for unpacked temporary files.

    UserError if the file is not such a table, a selected column is missing, or its text is refused.
    """
    wanted = ColumnSelection.by(params)
    if file.kind == "parquet":
        with open_seekable(file, meter, scratch=scratch) as stream:
            yield from parquet_blocks(stream, file.name, wanted, meter.spend)
        return

    def text() -> Iterator[bytes]:
        return decode(read_chunks(file, meter), file.name, params.encoding, params.errors)

    if file.kind == "jsonl":
        yield from json_blocks(text(), file.name, wanted)
    else:
        yield from csv_blocks(text, file.name, wanted, usual=USUAL_SEPARATOR[file.kind])


@dataclass
class TableDocuments:
    """Turns the blocks of tables into batches of documents with the schema `schema`; counts rows without text."""

    wanted: ColumnSelection
    schema: pa.Schema
    errors: str
    rows_without_text: int = 0

    def of(self, blocks: Iterable[pa.RecordBatch], name: str) -> Iterator[pa.RecordBatch]:
        """Yield the documents of the file `name`; UserError if a text contains NUL and `errors` is strict."""
        row = 1
        for block in blocks:
            batch = self._batch(block, name, row)
            row += block.num_rows
            self.rows_without_text += block.num_rows - batch.num_rows
            yield from _with_short_rows(batch, self.schema)

    def _batch(self, block: pa.RecordBatch, name: str, row: int) -> pa.RecordBatch:
        count = block.num_rows
        names = self._names(block, name, row)
        text = self._normalise(block.column(self.wanted.text), name, row)
        metadata = [as_type(block.column(field.name), field.type) for field in list(self.schema)[len(BASE) :]]
        batch = pa.RecordBatch.from_arrays(
            [names, pa.array(np.zeros(count, np.int32)), pa.array(np.ones(count, bool)), text, *metadata],
            schema=self.schema,
        )
        return batch.filter(text.is_valid()) if text.null_count else batch

    def _names(self, block: pa.RecordBatch, name: str, row: int) -> pa.Array:
        """Return the documents' names: from the block, and "file:row" where it has none."""
        own = None if self.wanted.id is None else as_type(block.column(self.wanted.id), pa.string())
        if own is not None and not own.null_count:
            return own
        rows = pa.array(np.arange(row, row + block.num_rows)).cast(pa.string())
        names = pc.binary_join_element_wise(name, rows, ":")
        return names if own is None else pc.coalesce(own, names)

    def _normalise(self, text: pa.Array, name: str, row: int) -> pa.Array:
        content = _content(text)
        if self.errors == "strict":
            refuse_nul(text, name, row)
        elif (content == ord(NUL)).any():
            text = pc.replace_substring(text, NUL, INSTEAD[self.errors])
        if (content == ord("\r")).any():
            text = pc.replace_substring(pc.replace_substring(text, "\r\n", "\n"), "\r", "\n")
        return text


def refuse_nul(text: pa.Array, name: str, row: int) -> None:
    """Raise UserError if `text` contains NUL: large strings, the first of which is row `row` of the file `name`."""
    if (_content(text) == ord(NUL)).any():
        found = pc.index(pc.match_substring(text, NUL), value=True).as_py()
        if found >= 0:  # otherwise it is among the bytes of a null
            raise UserError(
                f"data.source: {name}: NUL in the text of row {row + found}; set data.errors to replace or ignore"
            )


def grouped(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Join consecutive `batches` until each has about BATCH_BYTES, so that many small files make few batches."""
    held: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        held.append(batch)
        size += batch.nbytes
        if size >= BATCH_BYTES / 2:
            yield pa.concat_batches(held) if len(held) > 1 else held[0]
            held, size = [], 0
    if held:
        yield pa.concat_batches(held)


def _content(text: pa.Array) -> np.ndarray:
    """Return the bytes of large strings, one after the other (including those of nulls, if any)."""
    _, offsets, data = text.buffers()
    if data is None:
        return np.empty(0, np.uint8)
    ends = np.frombuffer(offsets, np.int64)[text.offset : text.offset + len(text) + 1]
    return np.frombuffer(data, np.uint8)[ends[0] : ends[-1]]


def _with_short_rows(batch: pa.RecordBatch, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield the documents of `batch`, splitting those of more than PIECE_BYTES into several rows."""
    sizes = pc.binary_length(batch.column("text"))
    start = 0
    for at in np.flatnonzero(sizes.to_numpy(zero_copy_only=False) > PIECE_BYTES).tolist():
        if at > start:
            yield batch.slice(start, at - start)
        values = batch.slice(at, 1).to_pylist()[0]
        metadata = {name: values[name] for name in schema.names[len(BASE) :]}
        yield from batches_of(rows_of(values["document"], [values["text"].encode()], metadata), schema)
        start = at + 1
    if start < batch.num_rows:
        yield batch.slice(start)

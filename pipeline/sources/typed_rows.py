"""Reads JSON lines and Parquet, whose columns have types, as blocks of the selected columns."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj
import pyarrow.parquet as pq
import pyarrow.types as pt

from pipeline.core.errors import UserError, one_line
from pipeline.core.reproducible import available_cores, ordered_map
from pipeline.sources.columns import LONGEST_ROW, ColumnSelection, is_string, row_too_long

ROW = re.compile(r" in row (\d+)$")
# The most brackets that may be open at once: at some ten thousand, Arrow's parser crashes the interpreter.
DEEPEST = 200


def json_blocks(text: Iterator[bytes], name: str, wanted: ColumnSelection) -> Iterator[pa.RecordBatch]:
    """Yield the `wanted` columns of the JSON lines `name`; null in rows that lack it.

    UserError for a line that is not an object, a text that is not a string, and a column that no row has.
    """
    blocks = _whole_lines(text, name)
    first = next(blocks, None)
    if first is None:
        return
    rows, seen, columns = 0, set[str](), list[str]()
    try:
        columns = _parse(first, None).column_names
        parser = _BlockParser(wanted)
        parser.learn(first)
        parsed = ordered_map(parser.parse, chain([first], blocks), threads=available_cores())
        for table in parsed:
            seen |= {column for column in wanted.names if table[column].null_count < table.num_rows}
            rows += table.num_rows
            yield from table.combine_chunks().to_batches()
    except pa.ArrowInvalid as error:
        raise UserError(f"data.source: {name}: {_message(error, rows)}") from None
    if rows:
        wanted.check(columns, name, seen=seen)


@dataclass
class _BlockParser:
    """Parses the blocks of one file: with the types of the first block, which is fast; otherwise it infers them.

    Date-like strings stay strings. Otherwise a column's type would depend on how the file was cut into blocks.
    """

    wanted: ColumnSelection
    known: dict[str, pa.DataType] = field(default_factory=dict)

    def learn(self, block: bytes) -> None:
        self.known = {column.name: column.type for column in self._infer(block).schema}

    def parse(self, block: bytes) -> pa.Table:
        try:
            table = _parse(block, self.known, others="ignore")
        except pa.ArrowInvalid:
            table = self._infer(block)
        return table.select(self.wanted.names)

    def _infer(self, block: bytes) -> pa.Table:
        types = {self.wanted.text: pa.large_string()}
        table = _parse(block, types)
        dates = {column.name: pa.string() for column in table.schema if pt.is_temporal(column.type)}
        if dates.keys() & set(self.wanted.names):
            table = _parse(block, types | dates)
        for column in self.wanted.names:
            if column not in table.column_names:
                table = table.append_column(column, pa.nulls(table.num_rows))
        return table.select(self.wanted.names)


def _parse(block: bytes, types: dict[str, pa.DataType] | None, others: str = "infer") -> pa.Table:
    """Return the columns of a block; ArrowInvalid if it is not JSON lines, also where Arrow's parser would crash."""
    from pipeline.text.utf8_kernels import line_nested_too_deeply  # numba takes 0.9 s to import

    if not block.lstrip().startswith(b"{"):
        raise pa.ArrowInvalid("a line that is not an object in row 0")
    if (line := line_nested_too_deeply(np.frombuffer(block, dtype=np.uint8), DEEPEST)) >= 0:
        raise pa.ArrowInvalid(f"more than {DEEPEST} nested brackets in row {line}")
    return pj.read_json(
        pa.BufferReader(block),
        read_options=pj.ReadOptions(use_threads=False, block_size=len(block) + 1),
        parse_options=pj.ParseOptions(
            explicit_schema=pa.schema(list(types.items())) if types else None, unexpected_field_behavior=others
        ),
    )


def _whole_lines(text: Iterator[bytes], name: str) -> Iterator[bytes]:
    held: list[bytes] = []
    for chunk in text:
        end = chunk.rfind(b"\n") + 1
        if end:
            yield b"".join([*held, chunk[:end]])
            held = []
        held.append(chunk[end:])
        if sum(map(len, held)) > LONGEST_ROW:
            raise row_too_long(name)
    if any(held):
        yield b"".join(held)


def _message(error: Exception, rows: int) -> str:
    """Return the message of Arrow's parser, with the row counted from the start of the file and from 1."""
    message = one_line(str(error).removeprefix("JSON parse error: "))
    return ROW.sub(lambda found: f" in row {rows + int(found[1]) + 1}", message)[:200]


BLOCK_BYTES = 8 << 20
MOST_ROWS = 1 << 16
BUFFER_BYTES = 1 << 20


def parquet_blocks(
    stream: IO[bytes], name: str, wanted: ColumnSelection, spend: Callable[[int], None]
) -> Iterator[pa.RecordBatch]:
    """Yield the `wanted` columns of the Parquet file `name`; `spend` is called with their bytes of text.

    UserError for a damaged file, a missing column, or a text that is not a string.
    """
    try:
        schema = pq.read_schema(stream)
        wanted.check(schema.names, name)
        _check_text(schema.field(wanted.text).type, name, wanted)
        texts = [one for one in wanted.names if _is_text(schema.field(one).type)]
        stream.seek(0)
        # With dictionaries, equal texts take memory once: a few KB of a file may be GB of texts.
        with pq.ParquetFile(stream, pre_buffer=False, buffer_size=BUFFER_BYTES, read_dictionary=texts) as file:
            for block in file.iter_batches(batch_size=_rows_at_once(file.metadata), columns=wanted.names):
                for rows in _decoded(block, texts):
                    at = rows.schema.get_field_index(wanted.text)
                    text = rows.column(at).cast(pa.large_string())
                    checked = rows.set_column(at, wanted.text, text)
                    checked.validate(full=True)
                    spend(text.nbytes)
                    yield checked
    except (OSError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(f"data.source: {name}: no readable Parquet: {one_line(error, most=200)}") from None


def _check_text(kind: pa.DataType, name: str, wanted: ColumnSelection) -> None:
    if not _is_text(kind):
        raise UserError(f"data.text_column: {wanted.text!r} of {name} has type {kind}; allowed is a column of strings")


def _is_text(kind: pa.DataType) -> bool:
    """Return whether a column may contain text: some writers do not declare that their bytes are UTF-8."""
    inner = kind.value_type if pt.is_dictionary(kind) else kind
    return is_string(inner) or pt.is_binary(inner) or pt.is_large_binary(inner)


def _decoded(block: pa.RecordBatch, texts: list[str]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of `block`, with its columns `texts` decoded from dictionaries, about BLOCK_BYTES at a time."""
    sizes = np.zeros(block.num_rows, dtype=np.int64)
    for name in texts:
        column = block.column(name)
        if pt.is_dictionary(column.type):
            lengths = pc.fill_null(pc.take(pc.binary_length(column.dictionary), column.indices), 0)
            sizes += lengths.to_numpy(zero_copy_only=False)
    ends, start = np.cumsum(sizes), 0
    while start < block.num_rows:
        before = ends[start - 1] if start else 0
        end = max(int(np.searchsorted(ends, before + BLOCK_BYTES, side="right")), start + 1)
        rows = block.slice(start, end - start)
        for name in texts:
            at = rows.schema.get_field_index(name)
            if pt.is_dictionary(rows.column(at).type):
                rows = rows.set_column(at, name, rows.column(at).dictionary_decode())
        yield rows
        start = end


def _rows_at_once(metadata: pq.FileMetaData) -> int:
    """Return the number of rows that have about BLOCK_BYTES, estimated from the row group with the largest rows."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    size = max((group.total_byte_size / max(group.num_rows, 1) for group in groups), default=1.0)
    return max(1, min(MOST_ROWS, int(BLOCK_BYTES / max(size, 1.0))))

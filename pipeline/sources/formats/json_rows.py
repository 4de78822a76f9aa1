"""Reads JSON lines (one object in each line) as blocks of columns; Arrow parses several blocks at a time."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.json as pj
import pyarrow.types as pt

from pipeline.core.errors import UserError, one_line
from pipeline.core.threads import available_cores, ordered_map
from pipeline.sources.formats.columns import LONGEST_ROW, ColumnSelection, row_too_long

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

"""JSON lines as blocks of columns: one object a line, parsed by Arrow, several blocks at a time."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.json as pj
import pyarrow.types as pt

from pipeline.core.errors import UserError
from pipeline.core.threads import available_cores, ordered_map
from pipeline.sources.formats.columns import LONGEST_ROW, Wanted, row_too_long

ROW = re.compile(r" in row (\d+)$")
# Brackets that may be open at once: Arrow's parser goes down with the interpreter at some ten thousand.
DEEPEST = 200


def json_blocks(text: Iterator[bytes], name: str, wanted: Wanted) -> Iterator[pa.RecordBatch]:
    """Yield the `wanted` columns of the JSON lines `name`; one that a row lacks is null there.

    UserError for a line that is no object, a text that is no string, and a column that no row has.
    """
    blocks = _whole_lines(text, name)
    first = next(blocks, None)
    if first is None:
        return
    rows, seen, columns = 0, set[str](), list[str]()
    try:
        columns = _parse(first, None).column_names
        wanted_types = _Types(wanted)
        wanted_types.learn(first)
        parsed = ordered_map(wanted_types.read, _chain(first, blocks), threads=available_cores())
        for table in parsed:
            seen |= {column for column in wanted.names if table[column].null_count < table.num_rows}
            rows += table.num_rows
            yield from table.combine_chunks().to_batches()
    except pa.ArrowInvalid as error:
        raise UserError(f"data.source: {name}: {_why(error, rows)}") from None
    if rows:
        wanted.check(columns, name, seen=seen)


@dataclass
class _Types:
    """How to parse the blocks of one file: with the types of its first block, which is fast; else by finding them.

    Strings that look like dates stay as they are written: whether all of a block's do must change nothing.
    """

    wanted: Wanted
    known: dict[str, pa.DataType] = field(default_factory=dict)

    def learn(self, block: bytes) -> None:
        self.known = {column.name: column.type for column in self._find(block).schema}

    def read(self, block: bytes) -> pa.Table:
        try:
            table = _parse(block, self.known, others="ignore")
        except pa.ArrowInvalid:
            table = self._find(block)
        return table.select(self.wanted.names)

    def _find(self, block: bytes) -> pa.Table:
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
    """Return the columns of a block; ArrowInvalid if it is no JSON lines, also where Arrow's parser would crash."""
    from pipeline.text.kernels.nesting import deepest_line  # numba: only for who has JSON

    if not block.lstrip().startswith(b"{"):
        raise pa.ArrowInvalid("a line that is no object in row 0")
    if (line := deepest_line(np.frombuffer(block, dtype=np.uint8), DEEPEST)) >= 0:
        raise pa.ArrowInvalid(f"more than {DEEPEST} brackets in each other in row {line}")
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


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _why(error: Exception, rows: int) -> str:
    """Return what is wrong, with the row counted from the file's start and from 1."""
    told = " ".join(str(error).removeprefix("JSON parse error: ").split())
    return ROW.sub(lambda found: f" in row {rows + int(found[1]) + 1}", told)[:200]

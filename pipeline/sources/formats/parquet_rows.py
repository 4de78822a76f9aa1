"""Reads Parquet as blocks of columns: a few rows of a row group at a time, however large the group is."""

from collections.abc import Callable, Iterator
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pt

from pipeline.core.errors import UserError, one_line
from pipeline.sources.formats.columns import ColumnSelection, is_string

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

"""Parquet as blocks of columns: some rows of a row group in memory at a time, however large the group is."""

from collections.abc import Callable, Iterator
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pt

from pipeline.core.errors import UserError
from pipeline.sources.formats.columns import Wanted, is_string

BLOCK_BYTES = 8 << 20
MOST_ROWS = 1 << 16
BUFFER_BYTES = 1 << 20


def parquet_blocks(
    stream: IO[bytes], name: str, wanted: Wanted, spend: Callable[[int], None]
) -> Iterator[pa.RecordBatch]:
    """Yield the `wanted` columns of the Parquet file `name`; `spend` is told of the bytes of text they hold.

    UserError for a damaged file, a missing column, or a text that is no string.
    """
    try:
        schema = pq.read_schema(stream)
        wanted.check(schema.names, name)
        _check_text(schema.field(wanted.text).type, name, wanted)
        texts = [one for one in wanted.names if _is_text(schema.field(one).type)]
        stream.seek(0)
        # As dictionaries, texts that are the same take memory once: some KB of a file may be GB of texts.
        with pq.ParquetFile(stream, pre_buffer=False, buffer_size=BUFFER_BYTES, read_dictionary=texts) as file:
            for block in file.iter_batches(batch_size=_rows_at_once(file.metadata), columns=wanted.names):
                for part in _decoded(block, texts):
                    at = part.schema.get_field_index(wanted.text)
                    text = part.column(at).cast(pa.large_string())
                    whole = part.set_column(at, wanted.text, text)
                    whole.validate(full=True)
                    spend(text.nbytes)
                    yield whole
    except (OSError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(f"data.source: {name}: no readable Parquet: {' '.join(str(error).split())[:200]}") from None


def _check_text(kind: pa.DataType, name: str, wanted: Wanted) -> None:
    if not _is_text(kind):
        raise UserError(f"data.text_column: {wanted.text!r} of {name} holds {kind}; allowed is a column of strings")


def _is_text(kind: pa.DataType) -> bool:
    """Return whether a column may hold texts: some writers do not say that their bytes are UTF-8."""
    inner = kind.value_type if pt.is_dictionary(kind) else kind
    return is_string(inner) or pt.is_binary(inner) or pt.is_large_binary(inner)


def _decoded(block: pa.RecordBatch, texts: list[str]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of `block`, its columns `texts` without dictionaries, some BLOCK_BYTES at a time."""
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
        part = block.slice(start, end - start)
        for name in texts:
            at = part.schema.get_field_index(name)
            if pt.is_dictionary(part.column(at).type):
                part = part.set_column(at, name, part.column(at).dictionary_decode())
        yield part
        start = end


def _rows_at_once(metadata: pq.FileMetaData) -> int:
    """Return how many rows have about BLOCK_BYTES, as the largest row group says."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    size = max((group.total_byte_size / max(group.num_rows, 1) for group in groups), default=1.0)
    return max(1, min(MOST_ROWS, int(BLOCK_BYTES / max(size, 1.0))))

"""Parquet as blocks of columns: some rows of a row group in memory at a time, however large the group is."""

from collections.abc import Callable, Iterator
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt

from pipeline.corpus.formats.columns import is_string
from pipeline.corpus.formats.wanted import Wanted
from pipeline.errors import UserError

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
        with pq.ParquetFile(stream, pre_buffer=False, buffer_size=BUFFER_BYTES) as file:
            wanted.check(file.schema_arrow.names, name)
            _check_text(file.schema_arrow.field(wanted.text).type, name, wanted)
            for block in file.iter_batches(batch_size=_rows_at_once(file.metadata), columns=wanted.names):
                at = block.schema.get_field_index(wanted.text)
                text = block.column(at)
                if pt.is_dictionary(text.type):
                    text = text.dictionary_decode()
                text = text.cast(pa.large_string())
                text.validate(full=True)
                spend(text.nbytes)
                yield block.set_column(at, wanted.text, text)
    except (OSError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(f"data.source: {name}: no readable Parquet: {' '.join(str(error).split())[:200]}") from None


def _check_text(kind: pa.DataType, name: str, wanted: Wanted) -> None:
    inner = kind.value_type if pt.is_dictionary(kind) else kind
    # Some writers do not say that their bytes are UTF-8.
    if not (is_string(inner) or pt.is_binary(inner) or pt.is_large_binary(inner)):
        raise UserError(f"data.text_column: {wanted.text!r} of {name} holds {kind}; allowed is a column of strings")


def _rows_at_once(metadata: pq.FileMetaData) -> int:
    """Return how many rows have about BLOCK_BYTES, as the largest row group says."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    size = max((group.total_byte_size / max(group.num_rows, 1) for group in groups), default=1.0)
    return max(1, min(MOST_ROWS, int(BLOCK_BYTES / max(size, 1.0))))

"""Columns of text as the kernels read them: the bytes of all rows, and where each row begins."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]


def buffers(texts: pa.Array) -> tuple[Bytes, Offsets]:
    """Return the UTF-8 of all rows of a large_string array, uint8, and where each begins, int64 [n + 1].

    The last of these is where the last row ends. A null row is empty. Nothing is copied but the offsets of a slice.
    """
    _, offset_buffer, data_buffer = texts.buffers()
    offsets = np.frombuffer(offset_buffer, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    if not len(offsets):  # Arrow may leave out the offsets of no rows
        return np.empty(0, dtype=np.uint8), np.zeros(1, dtype=np.int64)
    data = np.frombuffer(data_buffer or b"", dtype=np.uint8)[offsets[0] : offsets[-1]]
    return data, offsets - offsets[0] if offsets[0] else offsets


def text_array(data: Bytes, offsets: Offsets) -> pa.LargeStringArray:
    """Return rows of text, given as `buffers` gives them, as a large_string array."""
    return pa.LargeStringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(data))


def flags(column: pa.Array) -> npt.NDArray[np.bool_]:
    """Return a column of booleans without nulls as bool [n]."""
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.bool_)

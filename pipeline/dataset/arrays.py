"""Writes .npy files row by row, without knowing their length; reads them memory-mapped, with flat memory."""

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tokenize import TokenError
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from pipeline.core.errors import UserError, one_line
from pipeline.dataset.dictionary import Ids

# Reserved for the header, which is written at the end, when the shape is known.
HEADER_BYTES = 128


class ArrayWriter:
    """Writes an array of `dtype` and shape [rows] or, with `width`, [rows, width]."""

    def __init__(self, path: Path, dtype: npt.DTypeLike, *, width: int | None = None) -> None:
        self.dtype = np.dtype(dtype)
        self.width = width
        self.rows = 0
        self._file = path.open("wb")
        self._file.write(bytes(HEADER_BYTES))

    def append(self, rows: npt.NDArray[Any]) -> None:
        """Add rows at the end."""
        self._file.write(np.ascontiguousarray(rows, dtype=self.dtype).data)
        self.rows += len(rows)

    def close(self) -> None:
        """Write the header."""
        shape = (self.rows,) if self.width is None else (self.rows, self.width)
        header = BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": self.dtype.str, "fortran_order": False, "shape": shape})
        # numpy.lib.format: 8 bytes of magic and version, the length of the rest, a dict as text, spaces, a newline.
        text = header.getvalue()[10:].rstrip(b" \n").ljust(HEADER_BYTES - 11) + b"\n"
        self._file.seek(0)
        self._file.write(header.getvalue()[:8] + len(text).to_bytes(2, "little") + text)
        self._file.close()


@contextmanager
def array_writer(path: Path, dtype: npt.DTypeLike, *, width: int | None = None) -> Iterator[ArrayWriter]:
    """Yield a writer of the array in `path`, and close it at the end."""
    writer = ArrayWriter(path, dtype, width=width)
    try:
        yield writer
    finally:
        writer.close()


# What NumPy raises for a file that is no array: for its length, its header, or the Python literal in it.
NO_ARRAY = (OSError, ValueError, EOFError, TypeError, LookupError, SyntaxError, TokenError, MemoryError, RecursionError)


def load_array(
    path: Path, dtype: type[np.generic] = np.unsignedinteger, *, width: int | None = None
) -> npt.NDArray[Any]:
    """Return the array in `path`, memory-mapped: of a `dtype` (or a kind of it), [n] or, with `width`, [n, width].

    UserError if the file is missing or not such an array.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise OSError("found an archive of arrays, allowed is one array")
        shape = ("n",) if width is None else ("n", width)
        if not (np.issubdtype(array.dtype, dtype) and array.dtype.isnative and array.shape == (len(array), *shape[1:])):
            wanted = f"{dtype.__name__} [{', '.join(map(str, shape))}]"
            raise ValueError(f"found {array.dtype} {list(array.shape)}, allowed is {wanted}")
    except NO_ARRAY as error:
        found = one_line(error, most=200)
        raise UserError(f"{path}: not an array: {found}; `dvc repro` or `dvc checkout` restores it") from None
    return array


# Ids that are in memory at a time.
CHUNK = 1 << 22

T = TypeVar("T", bound=np.generic)


def count_ids(ids: Ids, num_ids: int) -> npt.NDArray[np.int64]:
    """Return how often each id occurs in `ids`, int64 [at least num_ids]."""
    counts = np.zeros(num_ids, dtype=np.int64)
    for chunk in chunks_of(ids):
        found = np.bincount(chunk, minlength=len(counts))
        counts = np.pad(counts, (0, len(found) - len(counts))) + found
    return counts


def chunks_of(ids: npt.NDArray[T]) -> Iterator[npt.NDArray[T]]:
    """Yield `ids` (or other numbers) in chunks of CHUNK.

    For a read-only memory map, the memory of a chunk is released when the next one is requested. Otherwise the whole
    file would stay in this process's resident set until memory is tight. A chunk that is used later is read again.
    """
    for at in range(0, len(ids), CHUNK):
        chunk = ids[at : at + CHUNK]
        yield chunk
        release_pages(chunk)


def release_pages(chunk: npt.NDArray[Any]) -> None:
    """Remove the pages of `chunk` from this process's memory, if it belongs to a read-only memory map."""
    source = getattr(chunk, "_mmap", None)  # a private name of NumPy; there is no public one
    if source is None or chunk.flags.writeable or not hasattr(mmap, "MADV_DONTNEED"):
        return
    start = chunk.ctypes.data - np.frombuffer(source, dtype=np.uint8).ctypes.data
    first = start - start % mmap.PAGESIZE
    source.madvise(mmap.MADV_DONTNEED, first, start + chunk.nbytes - first)

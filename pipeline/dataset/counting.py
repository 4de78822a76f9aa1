"""Reading and counting ids, a chunk at a time: the array may be far larger than memory."""

import mmap
from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from pipeline.dataset.dictionary import Ids

CHUNK = 1 << 22

T = TypeVar("T", bound=np.generic)


def count_ids(ids: Ids, num_ids: int) -> npt.NDArray[np.int64]:
    """Return how often each id stands in `ids`, int64 [at least num_ids]."""
    counts = np.zeros(num_ids, dtype=np.int64)
    for chunk in chunks_of(ids):
        found = np.bincount(chunk, minlength=len(counts))
        counts = np.pad(counts, (0, len(found) - len(counts))) + found
    return counts


def chunks_of(ids: npt.NDArray[T]) -> Iterator[npt.NDArray[T]]:
    """Yield `ids`, or numbers of another kind, in pieces of CHUNK.

    Of a memory map that is only read, a piece's memory is given back when the next one is asked for: else all of the
    file would count as this process's, until others press. Whoever keeps a piece has it read from the file again.
    """
    for at in range(0, len(ids), CHUNK):
        chunk = ids[at : at + CHUNK]
        yield chunk
        give_back(chunk)


def give_back(chunk: npt.NDArray[Any]) -> None:
    """Take the pages that lie in `chunk` out of this process, if it is of a memory map that is only read."""
    source = getattr(chunk, "_mmap", None)  # NumPy's own name for it; there is no public one
    if source is None or chunk.flags.writeable or not hasattr(mmap, "MADV_DONTNEED"):
        return
    start = chunk.ctypes.data - np.frombuffer(source, dtype=np.uint8).ctypes.data
    first = start - start % mmap.PAGESIZE
    source.madvise(mmap.MADV_DONTNEED, first, start + chunk.nbytes - first)

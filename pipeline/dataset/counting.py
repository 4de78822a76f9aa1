"""Counting ids, a chunk at a time: the array may be far larger than memory."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from pipeline.dataset.dictionary import Ids

CHUNK = 1 << 22


def count_ids(ids: Ids, num_ids: int) -> npt.NDArray[np.int64]:
    """Return how often each id stands in `ids`, int64 [at least num_ids]."""
    counts = np.zeros(num_ids, dtype=np.int64)
    for chunk in chunks_of(ids):
        found = np.bincount(chunk, minlength=len(counts))
        counts = np.pad(counts, (0, len(found) - len(counts))) + found
    return counts


def chunks_of(ids: Ids) -> Iterator[Ids]:
    """Yield `ids` in pieces of CHUNK."""
    for at in range(0, len(ids), CHUNK):
        yield ids[at : at + CHUNK]

"""64-bit hashes of texts, and the set of those that were seen before: finds duplicates.

Among ten million different texts, two have the same hash with a probability of one in 370,000 (n^2 / 2^65). This holds
for ordinary texts: two different ones with the same hash can be constructed on purpose.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.text.char_table import buffers
from pipeline.text.kernels.hashing import add_new, hash_rows, join_hash, mix_in_place

SMALLEST = 1 << 16

Hashes = npt.NDArray[np.uint64]


def hash_texts(texts: pa.Array) -> Hashes:
    """Return a hash of each row of a large_string array, uint64 [rows]; `join_hashes` joins two of them."""
    data, offsets = buffers(texts)
    out = np.empty(len(texts), dtype=np.uint64)
    hash_rows(data, offsets, out)
    return out


def join_hashes(first: int, second: int, num_bytes: int) -> int:
    """Return the hash of a text from those of its two parts, of which the second has `num_bytes` bytes."""
    return int(join_hash(np.uint64(first), np.uint64(second), num_bytes))


class SeenTexts:
    """A set of hashes: 16 to 32 bytes for each text."""

    def __init__(self) -> None:
        self._table = np.zeros(SMALLEST, dtype=np.uint64)
        self._count = 0

    def add(self, hashes: Hashes) -> npt.NDArray[np.bool_]:
        """Add texts by their hashes, uint64 [n]; returns which of them are new, bool [n]."""
        while 2 * (self._count + len(hashes)) > len(self._table):
            self._grow()
        values = hashes.copy()
        mix_in_place(values)
        is_new = np.empty(len(values), dtype=np.bool_)
        self._count += int(add_new(self._table, values, is_new))
        return is_new

    def _grow(self) -> None:
        known = self._table[self._table != 0]
        self._table = np.zeros(2 * len(self._table), dtype=np.uint64)
        add_new(self._table, known, np.empty(len(known), dtype=np.bool_))

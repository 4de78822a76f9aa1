"""Which texts were seen before, by a 64-bit hash.

Among ten million different texts two are taken for the same with a chance of one in 370,000: n^2 / 2^65. That is for
texts as people have them: whoever sets out to make two different ones with the same hash can.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.text.char_table import buffers
from pipeline.text.kernels.hashing import add_new, chained, hash_rows, mixed

SMALLEST = 1 << 16

Hashes = npt.NDArray[np.uint64]


def polynomials(texts: pa.Array) -> Hashes:
    """Return a hash of each row of a large_string array, uint64 [rows], that `joined` can go on from."""
    data, offsets = buffers(texts)
    out = np.empty(len(texts), dtype=np.uint64)
    hash_rows(data, offsets, out)
    return out


def joined(before: int, after: int, num_bytes: int) -> int:
    """Return the hash of a text from those of its two parts, of which the second is `num_bytes` long."""
    return int(chained(np.uint64(before), np.uint64(after), num_bytes))


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
        mixed(values)
        is_new = np.empty(len(values), dtype=np.bool_)
        self._count += int(add_new(self._table, values, is_new))
        return is_new

    def _grow(self) -> None:
        known = self._table[self._table != 0]
        self._table = np.zeros(2 * len(self._table), dtype=np.uint64)
        add_new(self._table, known, np.empty(len(known), dtype=np.bool_))

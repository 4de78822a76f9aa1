"""Counts, rewrites and hashes the texts of a column: gives it to the kernels as bytes and offsets."""

import threading
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.text.hash_kernels import add_new, hash_rows, join_hash, mix_in_place
from pipeline.text.utf8_kernels import ASCII, CODES, count, rewrite

Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]


def buffers(texts: pa.Array) -> tuple[Bytes, Offsets]:
    """Return the UTF-8 of all rows of a large_string array, uint8, and the offset of each row in it, int64 [n + 1].

    The last offset is the end of the last row. A null row is empty. Nothing is copied except the offsets of a slice.
    """
    _, offset_buffer, data_buffer = texts.buffers()
    offsets = np.frombuffer(offset_buffer, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    if not len(offsets):  # Arrow may leave out the offsets of no rows
        return np.empty(0, dtype=np.uint8), np.zeros(1, dtype=np.int64)
    data = np.frombuffer(data_buffer or b"", dtype=np.uint8)[offsets[0] : offsets[-1]]
    return data, offsets - offsets[0] if offsets[0] else offsets


def text_array(data: Bytes, offsets: Offsets) -> pa.LargeStringArray:
    """Return the large_string array of these bytes and offsets: the inverse of `buffers`."""
    return pa.LargeStringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(data))


def flags(column: pa.Array) -> npt.NDArray[np.bool_]:
    """Return a column of booleans without nulls as bool [n]."""
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.bool_)


# Bytes that are allocated for replacements at first.
BLOB = 1 << 16

Counts = npt.NDArray[np.int64]


def count_characters(data: Bytes) -> Counts:
    """Return how often each code point occurs in UTF-8 `data`, int64 [greatest code point + 1]."""
    counts = np.zeros(CODES, dtype=np.int64)
    return counts[: int(count(data, counts)) + 1]


class Rewriter:
    """Replaces every character by the string that `rule` returns for it; several threads may share one.

    The replacements are stored one after the other as UTF-8, with the start and length of each code point's.
    """

    def __init__(self, rule: Callable[[str], str]) -> None:
        self.rule = rule
        self._lock = threading.Lock()
        self._known = np.zeros(CODES, dtype=np.bool_)
        self._starts, self._lengths = np.zeros(CODES, dtype=np.int32), np.zeros(CODES, dtype=np.int32)
        self._same = np.zeros(256, dtype=np.bool_)
        self._blob = np.zeros(BLOB, dtype=np.uint8)
        self._used = 0

    def rewrite(self, texts: pa.LargeStringArray, counts: Counts | None = None) -> pa.LargeStringArray:
        """Return `texts` rewritten; `counts` are the counts of their characters, computed if omitted."""
        data, offsets = buffers(texts)
        found = count_characters(data) if counts is None else counts
        self._learn(np.flatnonzero(found))
        size = int((found * self._lengths[: len(found)]).sum())
        out, out_offsets = np.empty(size, dtype=np.uint8), np.empty_like(offsets)
        rewrite(data, offsets, self._starts, self._lengths, self._blob, self._same, out, out_offsets)
        return text_array(out, out_offsets)

    def _learn(self, codes: npt.NDArray[np.int64]) -> None:
        if self._known[codes].all():
            return
        with self._lock:
            for code in codes[~self._known[codes]].tolist():
                written = np.frombuffer(self.rule(chr(code)).encode(), dtype=np.uint8)
                while self._used + len(written) > len(self._blob):
                    self._blob = np.concatenate([self._blob, np.zeros_like(self._blob)])
                self._blob[self._used : self._used + len(written)] = written
                self._starts[code], self._lengths[code] = self._used, len(written)
                self._used += len(written)
                self._same[code & 0xFF] |= code < ASCII and bytes(written) == bytes([code])
                self._known[code] = True


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
    """The hashes of texts that were seen before, which find duplicates: 16 to 32 bytes for each text.

    Among ten million different texts, two have the same hash with a probability of one in 370,000 (n^2 / 2^65). This
    holds for ordinary texts: two different ones with the same hash can be constructed on purpose.
    """

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

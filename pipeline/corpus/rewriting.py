"""Replacing characters one by one: a rule is asked once for each distinct character, the rest is compiled."""

import threading
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.corpus.kernels.utf8 import ASCII, CODES, count, rewrite
from pipeline.corpus.rows import Bytes, buffers, text_array

BLOB = 1 << 16

Counts = npt.NDArray[np.int64]


def count_characters(data: Bytes) -> Counts:
    """Return how often each code point stands in UTF-8 `data`, int64 [greatest code point + 1]."""
    counts = np.zeros(CODES, dtype=np.int64)
    return counts[: int(count(data, counts)) + 1]


class Rewriter:
    """Replaces every character by what `rule` makes of it; serves any number of threads.

    What the characters become is kept as one run of UTF-8, and for each code point where in it, and how long.
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
        """Return `texts` rewritten; `counts` are those of their characters, if they are known."""
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

"""Unicode's normal forms, asked only where a text has characters that they could change."""

import unicodedata
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.corpus.kernels.utf8 import ASCII, CODES
from pipeline.corpus.rows import buffers

Form = Literal["NFC", "NFKC"]


def normalised(texts: pa.LargeStringArray, form: Form) -> pa.LargeStringArray:
    """Return `texts` in the normal form `form`: `texts` itself if nothing changes."""
    data, _ = buffers(texts)
    if unicodedata.is_normalized(form, str(data.data, "utf-8")):  # all rows as one text: quick, and mostly true
        return texts
    normal = pa.array([unicodedata.normalize(form, text) for text in texts.to_pylist()], pa.large_string())
    return texts if normal.equals(texts) else normal


class FragileCharacters:
    """Knows the characters that a normal form could change, or join to others: without any, a text is in that form.

    A character counts as one if its small letter does.
    """

    def __init__(self, form: Form) -> None:
        self.form = form
        self._known: dict[int, bool] = {}

    def among(self, codes: npt.NDArray[np.int64]) -> bool:
        """Return whether one of `codes` is such a character."""
        return any(self._is_fragile(code) for code in codes[codes >= ASCII].tolist())

    def _is_fragile(self, code: int) -> bool:
        if code not in self._known:
            char = chr(code)
            self._known[code] = (
                unicodedata.combining(char) != 0
                or char in followers()
                or any(not unicodedata.is_normalized(self.form, one) for one in (char, char.lower()))
                or any(unicodedata.combining(one) for one in char.lower())
            )
        return self._known[code]


@cache
def followers() -> frozenset[str]:
    """Return the characters that a normal form joins to the one before them, beside those of a combining class."""
    joined = (unicodedata.decomposition(chr(code)).split() for code in range(ASCII, CODES))
    pairs = {chr(int(parts[1], 16)) for parts in joined if len(parts) == 2 and not parts[0].startswith("<")}  # noqa: PLR2004
    jamo = map(chr, (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3)))  # Hangul, which is composed by arithmetic
    return frozenset((*pairs, *jamo))

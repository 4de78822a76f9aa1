"""Words: what one is, and which of some words stand in a stream that may be far larger than memory.

Two words are the same if their letters are the same in lower case; both of Greek's small sigmas count as one. They are
told apart by hashes of 64 bits: that one of k words is taken for one of n others has a probability of about k n / 2^64,
2e-6 for a thousand words and all strings of a corpus of 32 GB.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from pipeline.dataset.dictionary import Dictionary, Ids
from pipeline.evaluation.kernels.words import (
    APOSTROPHE,
    BREAK,
    FIRST_LETTER,
    OUTSIDE,
    PENDING,
    enter,
    hashes,
    read_words,
)

WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)?")
APOSTROPHES = "'\u2019"
SIGMA, FINAL_SIGMA = "\N{GREEK SMALL LETTER SIGMA}", "\N{GREEK SMALL LETTER FINAL SIGMA}"


def lowered(word: str) -> str:
    """Return `word` in lower case, a letter for a letter: what stands around it does not matter."""
    return "".join(small if len(small := char.lower()) == 1 else char for char in word).replace(FINAL_SIGMA, SIGMA)


def words_of(texts: Iterable[str]) -> set[str]:
    """Return the distinct words of `texts`, lowercased."""
    return {lowered(word) for text in texts for word in WORD.findall(text)}


class WordSearch:
    """Looks for `words` (lowercased) in the ids that `read` is given."""

    def __init__(self, words: Iterable[str], dictionary: Dictionary) -> None:
        self._words = sorted(words)
        symbols = dictionary.symbols
        self._code_of = np.full(len(symbols), BREAK, dtype=np.uint64)
        for number in range(dictionary.first_id, len(symbols)):
            self._code_of[number] = code_of(symbols[number])
        self._hashes = hashed(self._words)
        size = 1 << max(4, (4 * len(self._words)).bit_length())
        self._keys = np.zeros(size, dtype=np.uint64)
        self._found = np.zeros(size, dtype=np.bool_)
        enter(self._hashes, self._keys)
        self._walker = np.zeros(3, dtype=np.uint64)

    def read(self, ids: Ids) -> None:
        """Go on through the stream: `ids` follow those of the call before."""
        read_words(np.asarray(ids), self._code_of, self._keys, self._found, self._walker)

    def known(self) -> set[str]:
        """Return the words that stand in what was read; the stream ends there."""
        mode, value, first = self._walker.tolist()
        met = {*self._keys[self._found].tolist(), *([] if mode == OUTSIDE else [first if mode == PENDING else value])}
        return {word for word, value in zip(self._words, self._hashes.tolist(), strict=True) if value in met}


def hashed(words: Sequence[str]) -> npt.NDArray[np.uint64]:
    """Return the hashes of `words`, as the kernel makes them."""
    starts = np.cumsum([0, *map(len, words)], dtype=np.int64)
    codes = np.array([code_of(char) for word in words for char in word], dtype=np.uint64)
    out = np.zeros(len(words), dtype=np.uint64)
    hashes(codes, starts, out)
    return out


def code_of(char: str) -> int:
    """Return what `char` is to the kernel: a letter's number of 64 bits is made of what it is in lower case."""
    if char in APOSTROPHES:
        return APOSTROPHE + APOSTROPHES.index(char)
    if not WORD.fullmatch(char):
        return BREAK
    digest = hashlib.blake2b(lowered(char).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") | FIRST_LETTER

"""Figures of generated text: does it use the corpus's words, does it loop, does it copy."""

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.dataset.arrays import chunks_of
from pipeline.dataset.dictionary import Dictionary, Ids
from pipeline.evaluation.copies import Copies
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


class Found(NamedTuple):
    """What of some texts stands in a stream: which of their words, lowercased, and each text's longest copy."""

    words: set[str]
    longest_copies: list[int]


def find(texts: Sequence[str], ids: Ids, dictionary: Dictionary) -> Found:
    """Return what of `texts` stands in the text of `ids`, which is read once, in chunks, whatever its length.

    No word and no copy goes over a symbol that is no character: over the end of a document, where the dictionary has
    one.
    """
    words, copies = WordSearch(words_of(texts), dictionary), Copies(texts, dictionary)
    with ThreadPoolExecutor(2) as pool:  # the kernels let go of Python's lock
        for chunk in chunks_of(ids):
            list(pool.map(_read, (words, copies), repeat(chunk)))
    return Found(words.known(), copies.longest())


def _read(search: WordSearch | Copies, ids: Ids) -> None:
    search.read(ids)


def known_words(text: str, vocabulary: Collection[str], *, ended: bool = False) -> float:
    """Return the share of the words of `text` that are in `vocabulary` (lowercased); 1 if it has no word.

    The last word is left out if the text may end within it: if it has not `ended` by itself.
    """
    found = [lowered(match.group()) for match in WORD.finditer(text) if ended or match.end() < len(text)]
    return sum(word in vocabulary for word in found) / len(found) if found else 1.0


def longest_repeat(text: str) -> int:
    """Return the length of the longest substring that stands in `text` twice (it may overlap itself)."""
    return _longest(len(text) - 1, lambda length: _repeats(text, length))


def _repeats(text: str, length: int) -> bool:
    seen = set()
    for at in range(len(text) - length + 1):
        piece = text[at : at + length]
        if piece in seen:
            return True
        seen.add(piece)
    return False


def _longest(high: int, holds: Callable[[int], bool]) -> int:
    """Return the greatest length up to `high` for which `holds`; if it holds for one it holds for all shorter."""
    low = 0
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low

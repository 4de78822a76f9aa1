"""Figures of generated text: does it use the corpus's words, does it loop, does it copy."""

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import NamedTuple

from pipeline.dataset.counting import chunks_of
from pipeline.dataset.dictionary import Dictionary, Ids
from pipeline.evaluation.copies import Copies
from pipeline.evaluation.words import WORD, WordSearch, lowered, words_of


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

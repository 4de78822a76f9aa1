"""Figures of generated text: does it use the corpus's words, does it loop, does it copy."""

import re
from collections.abc import Callable, Iterable

WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)?")


def words_of(texts: Iterable[str]) -> set[str]:
    """Return the distinct words of `texts`, lowercased."""
    return {word for text in texts for word in WORD.findall(text.lower())}


def known_words(text: str, vocabulary: set[str]) -> float:
    """Return the share of the words of `text` that are in `vocabulary`; 1 if it has no word.

    The last word is left out: the text may end within it.
    """
    found = [match.group() for match in WORD.finditer(text.lower()) if match.end() < len(text)]
    return sum(word in vocabulary for word in found) / len(found) if found else 1.0


def longest_repeat(text: str) -> int:
    """Return the length of the longest substring that stands in `text` twice (it may overlap itself)."""
    return _longest(len(text) - 1, lambda length: _repeats(text, length))


def longest_copy(text: str, corpus: str) -> int:
    """Return the length of the longest substring of `text` that also stands in `corpus`."""
    longest = 0
    for start in range(len(text)):
        while start + longest < len(text) and text[start : start + longest + 1] in corpus:
            longest += 1
    return longest


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

"""Measures generated samples: do they use the training text's words, do they repeat themselves, are they copied."""

import unicodedata
from collections.abc import Callable, Collection, Sequence

import numpy as np

from pipeline.dataset.arrays import chunks_of
from pipeline.dataset.dictionary import Dictionary, Ids
from pipeline.validation.comparisons import overlaps

# The length of the substrings that count as copied, in characters. The 50 of the leakage check are too long for samples
# of 300 characters: a copy of 50 would count as one of 251 substrings. With 20, phrases such as "of the United States "
# are copies: 5.1 % of the held-out speeches of the default corpus, but 1.2 % with 30.
COPY_LENGTH = 30
APOSTROPHES = "'\u2019"
# A longer run of letters is cut while the training text is read, to bound memory. Samples have at most 100,000
# characters.
MAX_WORD = 1 << 20


def copied_shares(texts: Sequence[str], train: Ids, dictionary: Dictionary) -> list[float | None]:
    """Return the share of each text's substrings of COPY_LENGTH that occur in `train`; None if it is shorter."""
    ids = [dictionary.encode(text).astype(np.uint32) for text in texts]
    shares = overlaps(ids, train, dictionary, length=COPY_LENGTH)
    return [share if len(text) >= COPY_LENGTH else None for text, share in zip(texts, shares, strict=True)]


def words_of(text: str) -> list[str]:
    """Return the words of `text` in lower case: runs of letters, which may contain apostrophes."""
    return _split("".join(map(_letter_or_space, text)))


def words_in(ids: Ids, dictionary: Dictionary, texts: Sequence[str]) -> set[str]:
    """Return the words of `texts` that occur in the text of `ids`, which is read once, in chunks.

    Memory is bounded by a chunk and the words of `texts`. No word crosses a symbol that is no character, such as the
    end of a document.
    """
    wanted = {word for text in texts for word in words_of(text)}
    longest = max(map(len, wanted), default=0)
    codes = np.array([ord(_letter_or_space(symbol)) for symbol in dictionary.symbols], dtype="<u4")
    found: set[str] = set()
    rest = ""
    for chunk in chunks_of(ids):
        # The last word may continue in the next chunk.
        head, _, rest = (rest + str(codes[chunk].tobytes(), "utf-32-le")).rpartition(" ")
        if len(rest) > MAX_WORD:
            rest = rest[-longest - 1 :]  # too long to be one of the words, and still is
        found |= wanted.intersection(_split(head))
    return found | wanted.intersection(_split(rest))


def known_words(text: str, vocabulary: Collection[str], *, ended: bool = False) -> float:
    """Return the share of the words of `text` that are in `vocabulary` (lower case); 1 if it has no word.

    The last word is left out if it may be cut off: if `text` ends with a letter and has not `ended` itself.
    """
    words = words_of(text)
    if not ended and words and _letter_or_space(text[-1]) != " ":
        words.pop()
    return sum(word in vocabulary for word in words) / len(words) if words else 1.0


def _letter_or_space(char: str) -> str:
    """Return a letter (or a combining mark) in lower case, an apostrophe as it is, and a space for all others."""
    if char in APOSTROPHES:
        return char
    if unicodedata.category(char)[0] not in "LM":
        return " "
    return lower if len(lower := char.lower()) == 1 else char


def _split(text: str) -> list[str]:
    return [word for token in text.split() if (word := token.strip(APOSTROPHES))]


def longest_repeat(text: str) -> int:
    """Return the length of the longest substring that occurs twice in `text` (the two may overlap)."""
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
    """Return the greatest length up to `high` for which `holds`, which must then hold for all shorter ones too."""
    low = 0
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low

"""Finds prompts for a text: the most frequent beginnings of its own sentences."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa

# Characters that end a sentence in several scripts (the last three are full-width); so does the end of a line.
STOPS = ".!?…\u3002\uff01\uff1f"
SENTENCE_END = re.compile(rf"(?<=[{STOPS}])\s*(?=[^\s{STOPS}])|\n+")
# Numbers of words in a beginning, the most informative first.
WORDS = (4, 3, 2)
# Numbers of characters in a beginning, for scripts without spaces.
CHARACTERS = (6, 4, 2)
LONGEST, SHORTEST = 40, 2
# Beginnings with fewer occurrences than OFTEN, or in less than one of ONE_IN sentences, are coincidences.
OFTEN, ONE_IN = 3, 500
# The number of characters that are examined: more would hardly change the result.
EXAMINED = 4_000_000


class TextSample:
    """Collects the beginning of a text while its batches are being read."""

    def __init__(self, most: int = EXAMINED) -> None:
        self.most = most
        self.size = 0
        self._pieces: list[str] = []

    def collect(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield `batches` unchanged, and collect their text up to `most` characters."""
        for batch in batches:
            for text in batch.column("text"):
                if self.size >= self.most:
                    break
                piece = str(text)[: self.most - self.size]
                self.size += len(piece)
                self._pieces.append(piece)
            yield batch

    def text(self) -> str:
        """Return the collected text, with a newline between documents."""
        return "\n".join(self._pieces)


def find_prompts(text: str, *, is_usable: Callable[[str], bool], most: int = 3) -> list[str]:
    """Return up to `most` frequent beginnings of sentences in `text`, the longest kind first.

    `is_usable` tests whether the model will know a prompt. No two prompts begin with the same word. If no beginning is
    frequent, the result is the text's own first words; [] if these are not usable either.
    """
    sentences = [sentence.strip() for sentence in SENTENCE_END.split(text)]
    sentences = [sentence for sentence in sentences if len(sentence) > SHORTEST]
    spaced = sum(" " in sentence for sentence in sentences) * 2 > len(sentences)
    cuts = [_words(number) if spaced else _characters(number) for number in (WORDS if spaced else CHARACTERS)]
    often = max(OFTEN, len(sentences) // ONE_IN)
    found: list[str] = []
    for cut in cuts:
        counts = Counter(filter(None, map(cut, sentences)))
        for beginning, count in counts.most_common():
            if count < often or len(found) == most:
                break
            if is_usable(beginning) and not any(_same_start(beginning, one) for one in found):
                found.append(beginning)
    if not found:
        first = (cut(sentence) for cut in cuts for sentence in sentences[:100])
        found = [one for one in first if one and is_usable(one)][:1]
    return found


def _words(number: int) -> Callable[[str], str]:
    def cut(sentence: str) -> str:
        words = sentence.split()[: number + 1]
        beginning = " ".join(words[:number])
        # A sentence without further words is probably a heading. Words of running text have only letters, ' and -.
        is_text = len(words) > number and all(
            re.fullmatch(r"[^\W\d_]+(['\u2019\-][^\W\d_]+)*", word) for word in words[:number]
        )
        return beginning if is_text and SHORTEST <= len(beginning) <= LONGEST else ""

    return cut


def _characters(number: int) -> Callable[[str], str]:
    def cut(sentence: str) -> str:
        beginning = sentence[:number]
        return beginning if len(sentence) > number and beginning.isalpha() else ""

    return cut


def _same_start(one: str, other: str) -> bool:
    begins = one.startswith(other) or other.startswith(one)  # scripts without spaces have no words to compare
    return begins or one.split(maxsplit=1)[0].lower() == other.split(maxsplit=1)[0].lower()

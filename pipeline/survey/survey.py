"""Measures a text before it is cleaned (documents, characters, lines), and derives params for cleaning and splitting.

One pass, in little memory.
"""

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.cleaning.rules import rule_of
from pipeline.params.text import CleanParams
from pipeline.text.documents import Counts, SeenTexts, buffers, count_characters, flags, hash_texts, join_hashes
from pipeline.text.utf8_kernels import ASCII, CODES, EXTRA_SPACES, INDENTED, LONGEST, LONGEST_ROW, STATE, survey_lines

LONGEST_LINE = 4096

# By Unicode category, else by its first letter.
KINDS = {
    "So": "symbols and emoji",
    "Z": "spaces",
    "C": "control and format characters",
    "N": "digits",
    "P": "punctuation",
    "S": "signs",
    "M": "marks",
}
# A character with fewer occurrences than this is too rare to learn.
RARE = 10


@dataclass
class Survey:
    """The measurements of a text.

    `counts`, int64 [CODES]: the number of occurrences of each code point. `document_lengths`, int64 [documents]: in
    characters. `line_lengths`, int64 [LONGEST_LINE + 1]: the number of lines of each length; the last entry also counts
    longer ones.
    """

    counts: Counts = field(default_factory=lambda: np.zeros(CODES, dtype=np.int64))
    document_lengths: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    line_lengths: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(LONGEST_LINE + 1, dtype=np.int64))
    longest_line: int = 0
    longest_line_in: str = ""
    duplicates: int = 0
    duplicate_characters: int = 0
    extra_spaces: int = 0
    indented_lines: int = 0

    @property
    def documents(self) -> int:
        """The number of documents."""
        return len(self.document_lengths)

    @property
    def characters(self) -> int:
        """The number of characters."""
        return int(self.counts.sum())

    @property
    def alphabet(self) -> str:
        """The distinct characters, the most frequent first."""
        codes = np.flatnonzero(self.counts)
        return "".join(map(chr, codes[np.argsort(-self.counts[codes], kind="stable")].tolist()))

    @property
    def rare(self) -> str:
        """The characters that occur fewer than RARE times, the rarest first."""
        return "".join(char for char in reversed(self.alphabet) if self.counts[ord(char)] < RARE)

    @property
    def lines(self) -> int:
        """The number of lines, including empty ones."""
        return int(self.line_lengths.sum())

    def scripts(self) -> list[tuple[str, int]]:
        """Return the number of characters of each script, the most frequent first."""
        found: Counter[str] = Counter()
        for code in np.flatnonzero(self.counts).tolist():
            found[script_of(chr(code))] += int(self.counts[code])
        return found.most_common()

    def wrapped_at(self) -> int | None:
        """Return the length at which lines are cut, even within words; None if they are not.

        It is the length of more than half of the lines that are not empty. Text wrapped between words has lines of many
        lengths. Documents of one or two lines are ignored, since rows of a table may all be equally long.
        """
        if self.lines <= 2 * self.documents:
            return None
        lengths = self.line_lengths[1:LONGEST_LINE]
        most = int(np.argmax(lengths)) + 1
        return most if lengths[most - 1] > lengths.sum() / 2 and most >= 40 and lengths.sum() >= 20 else None

    def share_kept(self, params: CleanParams) -> float:
        """Return the share of characters that cleaning with `params` leaves unchanged."""
        rule = rule_of(params)
        kept = sum(int(self.counts[code]) for code in np.flatnonzero(self.counts).tolist() if not rule(chr(code))[1])
        return kept / max(self.characters, 1)


def survey(batches: Iterable[pa.RecordBatch], *, progress: Callable[[int], None] = lambda _: None) -> Survey:
    """Measure the documents in `batches`; `progress` is called with the number of bytes after each batch."""
    found, seen = Survey(), SeenTexts()
    state = np.zeros(STATE, dtype=np.int64)
    lengths: list[npt.NDArray[np.int64]] = []
    begun = (0, 0)  # hash and length of a document whose last row has not been read yet
    for batch in batches:
        texts, last = batch.column("text"), flags(batch.column("last"))
        data, offsets = buffers(texts)
        counts = count_characters(data)
        found.counts[: len(counts)] += counts
        survey_lines(data, offsets, last, found.line_lengths, state)
        if state[LONGEST_ROW] >= 0:
            found.longest_line_in = str(batch.column("document")[int(state[LONGEST_ROW])])
        hashes, sizes = hash_texts(texts), np.asarray(pc.utf8_length(texts)).astype(np.int64)
        sizes_in_bytes = np.diff(offsets)
        for row in np.flatnonzero(~last | (np.asarray(batch.column("part")) > 0)).tolist():
            begun = (join_hashes(begun[0], int(hashes[row]), int(sizes_in_bytes[row])), begun[1] + int(sizes[row]))
            if last[row]:
                hashes[row], sizes[row] = begun
                begun = (0, 0)
        new = seen.add(hashes[last])
        found.duplicates += int((~new).sum())
        found.duplicate_characters += int(sizes[last][~new].sum())
        lengths.append(sizes[last])
        progress(len(data))
    found.document_lengths = np.concatenate([found.document_lengths, *lengths])
    found.longest_line = int(state[LONGEST])
    found.extra_spaces, found.indented_lines = int(state[EXTRA_SPACES]), int(state[INDENTED])
    return found


def script_of(char: str) -> str:
    """Return the kind of a character: the script of a letter, such as "Cyrillic", or else its category."""
    if char in "\n\t":
        return "newlines" if char == "\n" else "tabs"
    category = unicodedata.category(char)
    if category.startswith("L"):
        return unicodedata.name(char, "UNKNOWN").partition(" ")[0].title() if ord(char) >= ASCII else "Latin"
    return KINDS.get(category) or KINDS[category[0]]


# Shares of the characters (or lines) above which a param is suggested.
TRANSLITERATED, SPARE_SPACES, INDENTED_LINES = 0.02, 0.01, 0.02
# With at least this number of documents, and at most this median length, each document is a sample of its own.
MANY_DOCUMENTS, SHORT_DOCUMENT = 500, 1000
# With at least this number of documents, they can be assigned to splits one by one.
ENOUGH_DOCUMENTS = 50
# Characters of eval text that are enough: more would take longer without a more exact result.
ENOUGH_EVAL = 2_000_000


class Advice(NamedTuple):
    """A suggested value for a key of the params, and the reason."""

    key: str
    value: str
    why: str


def advise(found: Survey) -> list[Advice]:
    """Return the params to change for this text, with reasons."""
    return [*_clean(found), *_split(found)]


def _clean(found: Survey) -> list[Advice]:
    total = max(found.characters, 1)
    changed = 1 - found.share_kept(CleanParams(charset="ascii", keep_newlines=True, keep_tabs=True))
    advice = []
    if changed > TRANSLITERATED:
        advice.append(
            Advice("clean.charset", "unicode", f"ascii would spell {changed:.1%} of the characters otherwise")
        )
        if rare := found.rare:
            share = sum(int(found.counts[ord(char)]) for char in rare) / total
            why = f"{len(rare):,} of {len(found.alphabet):,} characters are rarer: {share:.2%} of the text"
            advice.append(Advice("clean.min_count", str(RARE), why))
    else:
        advice.append(
            Advice("clean.charset", "ascii", f"it leaves all but {changed:.2%} of the characters as they are")
        )
    if width := found.wrapped_at():
        why = f"lines are cut at {width} characters, also within words: without newlines they join again"
        advice.append(Advice("clean.keep_newlines", "false", why))
    if found.indented_lines > INDENTED_LINES * max(found.lines, 1):
        why = f"{found.indented_lines:,} lines begin with a tab"
        advice.append(Advice("clean.keep_tabs", "true", why))
    elif found.extra_spaces > SPARE_SPACES * total:
        why = f"{found.extra_spaces / total:.1%} of the characters are spaces after a space, within lines"
        advice.append(Advice("clean.whitespace", "collapse", why))
    return advice


def _split(found: Survey) -> list[Advice]:
    middle = int(np.median(found.document_lengths)) if found.documents else 0
    advice = []
    if found.documents >= MANY_DOCUMENTS and middle <= SHORT_DOCUMENT:
        why = f"{found.documents:,} documents, the median of {middle:,} characters: each is a text of its own"
        advice += [Advice("split.samples", "documents", why)]
        advice += [Advice("split.buckets", "auto", "their lengths differ: at most 5 % of a batch is padding")]
    if found.documents >= ENOUGH_DOCUMENTS:
        advice.append(
            Advice("split.by", "document", "no document is in two splits, and new documents do not move the others")
        )
    fraction = 1 - ENOUGH_EVAL / max(found.characters, 1)
    if fraction > 0.9:
        why = f"{ENOUGH_EVAL:,} characters are enough to measure on"
        digits = 4 if fraction < 0.9999 else 8
        advice.append(Advice("split.train_fraction", f"{fraction:.{digits}g}", why))
    return advice

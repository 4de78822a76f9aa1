"""What a source holds, before anything is done to it: documents, characters, lines, in one pass and little memory."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.corpus.cleaning import rule_of
from pipeline.corpus.duplicates import SeenTexts, joined, polynomials
from pipeline.corpus.kernels.lines import EXTRA_SPACES, INDENTED, LONGEST, LONGEST_ROW, STATE, survey_lines
from pipeline.corpus.kernels.utf8 import ASCII, CODES
from pipeline.corpus.rewriting import Counts, count_characters
from pipeline.corpus.rows import buffers, flags
from pipeline.params.clean import CleanParams

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
# Fewer occurrences than this are too few to learn from.
RARE = 10


@dataclass
class Survey:
    """What was found.

    `counts` int64 [CODES]: how often each code point stands in the text. `document_lengths` int64 [documents], in
    characters. `line_lengths` int64 [LONGEST_LINE + 1]: how many lines are so long (the last: or longer).
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
        """How many documents there are."""
        return len(self.document_lengths)

    @property
    def characters(self) -> int:
        """How many characters there are."""
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
        """How many lines there are, empty ones included."""
        return int(self.line_lengths.sum())

    def scripts(self) -> list[tuple[str, int]]:
        """Return how many characters are of each script, the most frequent first."""
        found: Counter[str] = Counter()
        for code in np.flatnonzero(self.counts).tolist():
            found[script_of(chr(code))] += int(self.counts[code])
        return found.most_common()

    def wrapped_at(self) -> int | None:
        """Return the length at which lines are cut, also within words; None if they are not.

        More than half of the lines that are not empty have it: words that are wrapped as wholes give many lengths. In
        documents of one line or two nothing is cut: rows of a table may all be equally long.
        """
        if self.lines <= 2 * self.documents:
            return None
        lengths = self.line_lengths[1:LONGEST_LINE]
        most = int(np.argmax(lengths)) + 1
        return most if lengths[most - 1] > lengths.sum() / 2 and most >= 40 and lengths.sum() >= 20 else None  # noqa: PLR2004

    def share_kept(self, params: CleanParams) -> float:
        """Return the share of characters that the rule for characters leaves as they are."""
        rule = rule_of(params)
        kept = sum(int(self.counts[code]) for code in np.flatnonzero(self.counts).tolist() if not rule(chr(code))[1])
        return kept / max(self.characters, 1)


def survey(batches: Iterable[pa.RecordBatch], *, read: Callable[[int], None] = lambda _: None) -> Survey:
    """Return what the documents in `batches` hold; `read` is told of every so many bytes of text."""
    found, seen = Survey(), SeenTexts()
    state = np.zeros(STATE, dtype=np.int64)
    lengths: list[npt.NDArray[np.int64]] = []
    begun = (0, 0)  # hash and characters of a document whose last row is still to come
    for batch in batches:
        texts, last = batch.column("text"), flags(batch.column("last"))
        data, offsets = buffers(texts)
        counts = count_characters(data)
        found.counts[: len(counts)] += counts
        survey_lines(data, offsets, last, found.line_lengths, state)
        if state[LONGEST_ROW] >= 0:
            found.longest_line_in = str(batch.column("document")[int(state[LONGEST_ROW])])
        hashes, sizes = polynomials(texts), np.asarray(pc.utf8_length(texts)).astype(np.int64)
        sizes_in_bytes = np.diff(offsets)
        for row in np.flatnonzero(~last | (np.asarray(batch.column("part")) > 0)).tolist():
            begun = (joined(begun[0], int(hashes[row]), int(sizes_in_bytes[row])), begun[1] + int(sizes[row]))
            if last[row]:
                hashes[row], sizes[row] = begun
                begun = (0, 0)
        new = seen.add(hashes[last])
        found.duplicates += int((~new).sum())
        found.duplicate_characters += int(sizes[last][~new].sum())
        lengths.append(sizes[last])
        read(len(data))
    found.document_lengths = np.concatenate([found.document_lengths, *lengths])
    found.longest_line = int(state[LONGEST])
    found.extra_spaces, found.indented_lines = int(state[EXTRA_SPACES]), int(state[INDENTED])
    return found


def script_of(char: str) -> str:
    """Return what kind of character it is: a letter's script by its name ("Cyrillic"), else what it is."""
    if char in "\n\t":
        return "newlines" if char == "\n" else "tabs"
    category = unicodedata.category(char)
    if category.startswith("L"):
        return unicodedata.name(char, "UNKNOWN").partition(" ")[0].title() if ord(char) >= ASCII else "Latin"
    return KINDS.get(category) or KINDS[category[0]]

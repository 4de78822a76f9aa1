"""Unicode's normal forms, asked only where a text has characters that they could change."""

import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from anyascii import anyascii

from pipeline.params.text import CleanParams
from pipeline.text.char_table import Counts, Rewriter, buffers, count_characters, text_array
from pipeline.text.kernels.utf8 import ASCII, CODES, collapse

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


# Invisible, but part of how Persian, Indic scripts and emoji are spelt.
JOINERS = "\u200c\u200d"
# Stands for what is unknown; and how a document's ends are marked in a stream, so that no text may hold them.
UNKNOWN, MARKS = "\ufffd", "\x02\x03"

FORMS: dict[str, Form] = {"nfc": "NFC", "nfkc": "NFKC"}

Flags = npt.NDArray[np.bool_]


@dataclass
class Changes:
    """What cleaning found: how often each character stood in the text, int64 [CODES].

    `composed` and `collapsed` are how many characters the normal form and `whitespace` took away.
    """

    counts: Counts = field(default_factory=lambda: np.zeros(CODES, dtype=np.int64))
    composed: int = 0
    collapsed: int = 0

    def add(self, other: "Changes") -> None:
        """Add what was found in another part of the text."""
        self.counts[: len(other.counts)] += other.counts
        self.composed += other.composed
        self.collapsed += other.collapsed


def rule_of(params: CleanParams) -> Callable[[str], tuple[str, str]]:
    """Return the rule for one character: what it becomes, and the key of `clean` that says so ("" if it stays)."""
    charset = _ascii if params.charset == "ascii" else _unicode

    def rule(char: str) -> tuple[str, str]:
        if char in "\n\t":
            key = "keep_newlines" if char == "\n" else "keep_tabs"
            return (char, "") if getattr(params, key) else (" " if params.control == "space" else "", key)
        if char == UNKNOWN and params.min_count:
            return char, ""
        if unicodedata.category(char) in {"Cc", "Zl", "Zp"}:
            if params.control == "keep" and char not in MARKS:
                return char, ""
            return " " if params.control == "space" else "", "control"
        kept = charset(char)
        became = kept.lower() if params.lowercase else kept
        return became, "" if became == char else "charset" if kept != char else "lowercase"

    return rule


def _ascii(char: str) -> str:
    """Return the printable ASCII spelling of `char`, "" if it has none ("é" is "e", "—" is "-")."""
    return "".join(c for c in anyascii(char) if " " <= c <= "~")


def _unicode(char: str) -> str:
    """Return `char` if it is printable in any script; every kind of space is " "."""
    if char.isprintable() or char in JOINERS:
        return char
    return " " if unicodedata.category(char) == "Zs" else ""


class Cleaner:
    """The rules of `clean` on rows of text; one cleaner serves any number of threads."""

    def __init__(self, params: CleanParams) -> None:
        self.params = params
        self.rule = rule_of(params)
        self._rewriter = Rewriter(lambda char: self.rule(char)[0])
        self._fragile = FragileCharacters(FORMS[params.normalize]) if params.charset == "unicode" else None

    def clean(self, texts: pa.LargeStringArray, first: Flags, last: Flags) -> tuple[pa.LargeStringArray, Changes]:
        """Return `texts` cleaned, and what was changed. Cleaning clean text changes nothing.

        `first` and `last`, bool [rows], say which rows begin and end a document.
        """
        texts, changes = self._characters(texts)
        if self.params.whitespace == "collapse":
            data, offsets = buffers(texts)
            out, out_offsets = np.empty(len(data), dtype=np.uint8), np.empty_like(offsets)
            size = int(collapse(data, offsets, first, last, out, out_offsets))
            changes.collapsed = len(data) - size  # spaces, tabs and newlines are one byte each
            texts = text_array(out[:size], out_offsets)
        return texts, changes

    def told(self, counts: Counts) -> Iterator[tuple[str, str, str, int]]:
        """Yield character, what it became, by which key of `clean`, and how often: of those that did not stay."""
        for code in np.flatnonzero(counts).tolist():
            became, key = self.rule(chr(code))
            if key:
                yield chr(code), became, key, int(counts[code])

    def _characters(self, texts: pa.LargeStringArray) -> tuple[pa.LargeStringArray, Changes]:
        if self._fragile is None:
            counts = count_characters(buffers(texts)[0])
            return self._rewriter.rewrite(texts, counts), Changes(counts)
        composed = 0
        counts = count_characters(buffers(texts)[0])
        fragile = self._fragile.among(np.flatnonzero(counts))
        if fragile and (normal := normalised(texts, self._fragile.form)) is not texts:
            composed = _characters_in(texts) - _characters_in(normal)
            texts = normal
            counts = count_characters(buffers(texts)[0])
        done = self._rewriter.rewrite(texts, counts)
        # Dropping a character can bring a letter and its accent together, and a small letter be spelt otherwise.
        while fragile and (normal := normalised(done, self._fragile.form)) is not done:
            done = self._rewriter.rewrite(normal)
        return done, Changes(counts, composed=composed)


def _characters_in(texts: pa.LargeStringArray) -> int:
    return pc.sum(pc.utf8_length(texts)).as_py() or 0

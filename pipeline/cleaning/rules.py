"""The rules of `clean` for characters: charset, normal form, case, control characters and whitespace."""

import threading
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
from pipeline.text.documents import Counts, buffers, count_characters, text_array
from pipeline.text.utf8_kernels import ASCII, CODES, collapse, rewrite

Form = Literal["NFC", "NFKC"]


def normalised(texts: pa.LargeStringArray, form: Form) -> pa.LargeStringArray:
    """Return `texts` in the normal form `form`: `texts` itself if nothing changes."""
    data, _ = buffers(texts)
    if unicodedata.is_normalized(form, str(data.data, "utf-8")):  # all rows as one text: fast, and usually true
        return texts
    normal = pa.array([unicodedata.normalize(form, text) for text in texts.to_pylist()], pa.large_string())
    return texts if normal.equals(texts) else normal


class FragileCharacters:
    """Detects characters that a normal form could change or compose. Text without any is already normalised.

    A character counts too if its lower-case letter does.
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
    """Return the characters that a normal form joins to the one before them, apart from those of a combining class."""
    decompositions = (unicodedata.decomposition(chr(code)).split() for code in range(ASCII, CODES))
    pairs = {chr(int(two[1], 16)) for two in decompositions if len(two) == 2 and not two[0].startswith("<")}
    jamo = map(chr, (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3)))  # Hangul, composed by arithmetic
    return frozenset((*pairs, *jamo))


# Invisible, but part of the spelling of Persian, Indic scripts and emoji.
JOINERS = "\u200c\u200d"
# The sign of the unknown symbol, and the marks of a document's begin and end in a stream, which no text may contain:
# UNKNOWN_SIGN, BEGIN_MARK and END_MARK of dataset/dictionary.py.
UNKNOWN, MARKS = "\ufffd", "\x02\x03"

FORMS: dict[str, Form] = {"nfc": "NFC", "nfkc": "NFKC"}

Flags = npt.NDArray[np.bool_]


@dataclass
class Changes:
    """How often each code point occurred before the rule for characters, int64 [CODES].

    `composed` and `collapsed` are the numbers of characters that the normal form and `whitespace` removed.
    """

    counts: Counts = field(default_factory=lambda: np.zeros(CODES, dtype=np.int64))
    composed: int = 0
    collapsed: int = 0

    def add(self, other: "Changes") -> None:
        """Add the counts of other texts."""
        self.counts[: len(other.counts)] += other.counts
        self.composed += other.composed
        self.collapsed += other.collapsed


def rule_of(params: CleanParams) -> Callable[[str], tuple[str, str]]:
    """Return the rule for one character: what it becomes, and the key of `clean` that decides so ("" if unchanged)."""
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
        allowed = charset(char)
        became = allowed.lower() if params.lowercase else allowed
        return became, "" if became == char else "charset" if allowed != char else "lowercase"

    return rule


def _ascii(char: str) -> str:
    """Return the printable ASCII spelling of `char`, "" if it has none ("é" is "e", "—" is "-")."""
    return "".join(c for c in anyascii(char) if " " <= c <= "~")


def _unicode(char: str) -> str:
    """Return `char` if it is printable in any script; " " for every kind of space, "" for others."""
    if char.isprintable() or char in JOINERS:
        return char
    return " " if unicodedata.category(char) == "Zs" else ""


# Bytes that are allocated for replacements at first.
BLOB = 1 << 16


class Rewriter:
    """Replaces every character by the string that `rule` returns for it; several threads may share one.

    The replacements are stored one after the other as UTF-8, with the start and length of each code point's.
    """

    def __init__(self, rule: Callable[[str], str]) -> None:
        self.rule = rule
        self._lock = threading.Lock()
        self._known = np.zeros(CODES, dtype=np.bool_)
        self._starts, self._lengths = np.zeros(CODES, dtype=np.int32), np.zeros(CODES, dtype=np.int32)
        self._same = np.zeros(256, dtype=np.bool_)
        self._blob = np.zeros(BLOB, dtype=np.uint8)
        self._used = 0

    def rewrite(self, texts: pa.LargeStringArray, counts: Counts | None = None) -> pa.LargeStringArray:
        """Return `texts` rewritten; `counts` are the counts of their characters, computed if omitted."""
        data, offsets = buffers(texts)
        found = count_characters(data) if counts is None else counts
        self._learn(np.flatnonzero(found))
        size = int((found * self._lengths[: len(found)]).sum())
        out, out_offsets = np.empty(size, dtype=np.uint8), np.empty_like(offsets)
        rewrite(data, offsets, self._starts, self._lengths, self._blob, self._same, out, out_offsets)
        return text_array(out, out_offsets)

    def _learn(self, codes: npt.NDArray[np.int64]) -> None:
        if self._known[codes].all():
            return
        with self._lock:
            for code in codes[~self._known[codes]].tolist():
                written = np.frombuffer(self.rule(chr(code)).encode(), dtype=np.uint8)
                while self._used + len(written) > len(self._blob):
                    self._blob = np.concatenate([self._blob, np.zeros_like(self._blob)])
                self._blob[self._used : self._used + len(written)] = written
                self._starts[code], self._lengths[code] = self._used, len(written)
                self._used += len(written)
                self._same[code & 0xFF] |= code < ASCII and bytes(written) == bytes([code])
                self._known[code] = True


class Cleaner:
    """Applies the rules of `clean` to rows of text; several threads may share one."""

    def __init__(self, params: CleanParams) -> None:
        self.params = params
        self.rule = rule_of(params)
        self._rewriter = Rewriter(lambda char: self.rule(char)[0])
        self._fragile = FragileCharacters(FORMS[params.normalize]) if params.charset == "unicode" else None

    def clean(self, texts: pa.LargeStringArray, first: Flags, last: Flags) -> tuple[pa.LargeStringArray, Changes]:
        """Return `texts` cleaned, and the changes. Cleaning clean text changes nothing.

        `first` and `last`, bool [rows], are true for rows that begin and end a document.
        """
        texts, changes = self._characters(texts)
        if self.params.whitespace == "collapse":
            data, offsets = buffers(texts)
            out, out_offsets = np.empty(len(data), dtype=np.uint8), np.empty_like(offsets)
            size = int(collapse(data, offsets, first, last, out, out_offsets))
            changes.collapsed = len(data) - size  # spaces, tabs and newlines are one byte each
            texts = text_array(out[:size], out_offsets)
        return texts, changes

    def list_changes(self, counts: Counts) -> Iterator[tuple[str, str, str, int]]:
        """Yield each changed or dropped character, what it became, by which key of `clean`, and its count."""
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
        rewritten = self._rewriter.rewrite(texts, counts)
        # Dropping a character can bring a letter and its accent together, and lower case can change the normal form.
        while fragile and (normal := normalised(rewritten, self._fragile.form)) is not rewritten:
            rewritten = self._rewriter.rewrite(normal)
        return rewritten, Changes(counts, composed=composed)


def _characters_in(texts: pa.LargeStringArray) -> int:
    return pc.sum(pc.utf8_length(texts)).as_py() or 0

"""Which characters stay, and what the others become.

The default is the tutorial's rule: transliterate to ASCII, then delete what is not printable. A rule maps one character
to its replacement, so that it runs as one `str.translate` and every change can be counted by character.
"""

import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from anyascii import anyascii

from pipeline.params.clean import CleanParams

# Invisible, but part of how Persian, Indic scripts and emoji are spelt.
JOINERS = "\u200c\u200d"


class Table(dict[int, str]):
    """A table for `str.translate` that asks `rule` once for each distinct character."""

    def __init__(self, rule: Callable[[str], str]) -> None:
        super().__init__()
        self._rule = rule

    def __missing__(self, code: int) -> str:
        became = self[code] = self._rule(chr(code))
        return became


def ascii_rule(char: str) -> str:
    """Return the printable ASCII spelling of `char`, "" if it has none ("é" is "e", "—" is "-", a tab is "")."""
    return "".join(c for c in anyascii(char) if " " <= c <= "~")


def unicode_rule(char: str) -> str:
    """Return `char` if it is printable in any script; every kind of space is " "; control characters are ""."""
    if char.isprintable() or char in JOINERS:
        return char
    return " " if unicodedata.category(char) == "Zs" else ""


def make_table(params: CleanParams) -> Table:
    """Return the character table that `clean` describes."""
    keep = ascii_rule if params.charset == "ascii" else unicode_rule

    def rule(char: str) -> str:
        if char == "\n":
            return "\n" if params.keep_newlines else ""
        return keep(char).lower() if params.lowercase else keep(char)

    return Table(rule)


@dataclass
class Changes:
    """What cleaning did: how often each character was replaced or dropped, and how many NFC composed away."""

    replaced: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    composed: int = 0


def clean(text: str, params: CleanParams, table: Table, changes: Changes | None = None) -> str:
    """Return `text` cleaned; `changes`, if given, is added to. Cleaning clean text changes nothing."""
    if params.charset == "unicode":
        normal = unicodedata.normalize("NFC", text)
        if changes is not None:
            changes.composed += len(text) - len(normal)
        text = normal
    if changes is not None:
        for char, count in Counter(text).items():
            became = table[ord(char)]
            if became == "":
                changes.dropped[char] += count
            elif became != char:
                changes.replaced[char] += count
    cleaned = text.translate(table)
    # Dropping a character can bring a letter and its accent together.
    return unicodedata.normalize("NFC", cleaned) if params.charset == "unicode" else cleaned


def separator(params: CleanParams) -> str:
    """Return what stands between two documents in the stream of text."""
    return "\n" if params.keep_newlines else " "

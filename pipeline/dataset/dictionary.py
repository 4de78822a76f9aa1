"""The dictionary: characters to ids and back.

Id 0 is padding, never a character. With `unknown`, id 1 is the unknown symbol: it represents every character that the
dictionary lacks, counts in the loss, and is never generated. With `bounded`, the next two ids are the begin and end
symbols of a document: a document starts after the begin symbol, and a model ends it by generating the end symbol. The
characters follow, sorted by code point.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.core.errors import UserError
from pipeline.core.files import read_json, write_json

PADDING = 0
UNKNOWN = 1

# How symbols are shown in plots and samples; the sign for padding is that of the tutorial.
PADDING_SIGN = "¤"
UNKNOWN_SIGN = "\ufffd"
BEGIN_SIGN, END_SIGN = "\u2402", "\u2403"
# The begin and end of a document in a stream of text: cleaned text never contains these characters.
BEGIN_MARK, END_MARK = "\x02", "\x03"

Ids = npt.NDArray[np.unsignedinteger]


@dataclass(frozen=True)
class Dictionary:
    """`characters[i]` has id `first_id + i`; `unknown` and `bounded` say which symbols there are besides padding."""

    characters: tuple[str, ...]
    unknown: bool = False
    bounded: bool = False

    @classmethod
    def of(cls, characters: Iterable[str], *, unknown: bool = False, bounded: bool = False) -> "Dictionary":
        """Return the dictionary of the distinct `characters`; with `unknown`, without the unknown symbol's sign."""
        own = set(characters) - ({UNKNOWN_SIGN} if unknown else set())
        return cls(characters=tuple(sorted(own)), unknown=unknown, bounded=bounded)

    @property
    def begin(self) -> int | None:
        """The id of the begin symbol, None if there is none."""
        return 1 + self.unknown if self.bounded else None

    @property
    def end(self) -> int | None:
        """The id of the end symbol, None if there is none."""
        return 2 + self.unknown if self.bounded else None

    @property
    def first_id(self) -> int:
        """The id of the first character: the ids below it are symbols."""
        return 1 + self.unknown + 2 * self.bounded

    def __len__(self) -> int:
        """Return the number of ids, symbols included: the model's vocabulary size."""
        return self.first_id + len(self.characters)

    @cached_property
    def dtype(self) -> np.dtype[np.unsignedinteger]:
        """The smallest unsigned dtype that can represent every id."""
        return np.min_scalar_type(len(self) - 1)

    @cached_property
    def _lookup(self) -> npt.NDArray[np.int64]:
        """The id of each code point; -1 where the dictionary has none."""
        table = np.full(max((ord(c) for c in self.characters), default=0) + 2, -1, dtype=np.int64)
        for position, char in enumerate(self.characters):
            table[ord(char)] = self.first_id + position
        return table

    def encode(self, text: str) -> npt.NDArray[np.int64]:
        """Return ids, int64 [len(text)]; UNKNOWN for a character without id, or -1 if there is no unknown symbol."""
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        ids = self._lookup[np.minimum(codes, len(self._lookup) - 1)]
        if self.unknown:
            ids[ids < 0] = UNKNOWN
        return ids

    def decode(self, ids: Sequence[int] | Ids) -> str:
        """Return the text of `ids`, with signs for symbols that are not characters."""
        return "".join(self.symbols[int(i)] for i in ids)

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        """The reverse dictionary: the character of each id, or a symbol's sign."""
        own = (*((UNKNOWN_SIGN,) if self.unknown else ()), *((BEGIN_SIGN, END_SIGN) if self.bounded else ()))
        return (PADDING_SIGN, *own, *self.characters)

    def as_json(self) -> dict[str, Any]:
        """Return what `save` writes: the ids of the symbols, and the characters in the order of their ids."""
        ends = {"begin": self.begin, "end": self.end} if self.bounded else {}
        return {
            "padding": PADDING,
            "unknown": UNKNOWN if self.unknown else None,
            **ends,
            "characters": self.characters,
        }

    def save(self, path: Path) -> None:
        """Write the dictionary as JSON."""
        write_json(path, self.as_json())

    @classmethod
    def load(cls, path: Path) -> "Dictionary":
        """Return the dictionary in the file `path`; UserError if it is missing or not a dictionary."""
        try:
            content = read_json(path)
            characters = tuple(content["characters"])
            found = cls(characters, unknown=content["unknown"] is not None, bounded=content.get("begin") is not None)
            symbols = (content["unknown"], content.get("begin"), content.get("end"))
        except FileNotFoundError:
            raise UserError(f"{path}: no such file; `dvc repro` makes it") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise UserError(f"{path}: not a dictionary; allowed is JSON with characters and unknown") from None
        is_list = isinstance(content["characters"], list)
        if not is_list or not all(isinstance(c, str) and len(c) == 1 for c in characters):
            raise UserError(f"{path}: not a dictionary; allowed are single characters")
        allowed = (UNKNOWN if found.unknown else None, found.begin, found.end)
        if symbols != allowed:
            raise UserError(f"{path}: not a dictionary; found unknown, begin, end {symbols}, allowed is {allowed}")
        return found

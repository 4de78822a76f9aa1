"""The dictionary: characters to ids and back.

Id 0 is padding, never a character. With `unknown`, id 1 stands for every character the dictionary lacks: counted in
the loss, never generated. With `bounded`, two more ids are the begin and the end of a document: a text starts after the
begin symbol, and a model that writes the end symbol has ended it. The characters follow, sorted by code point, one id
each.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.core.errors import UserError
from pipeline.core.files import read_json, write_json

PADDING = 0
UNKNOWN = 1

# How the ids that are no character are shown, in plots and samples; the tutorial's sign for padding is its own.
PADDING_SIGN = "¤"
UNKNOWN_SIGN = "\ufffd"
BEGIN_SIGN, END_SIGN = "\u2402", "\u2403"
# How the begin and the end of a document stand in a stream of text: cleaned text has no such characters.
BEGIN_MARK, END_MARK = "\x02", "\x03"

Ids = npt.NDArray[np.unsignedinteger]


@dataclass(frozen=True)
class Dictionary:
    """`characters[i]` has id `first_id + i`; `unknown` and `bounded` say which symbols there are beside padding."""

    characters: tuple[str, ...]
    unknown: bool = False
    bounded: bool = False

    @classmethod
    def of(cls, characters: Iterable[str], *, unknown: bool = False, bounded: bool = False) -> "Dictionary":
        """Return the dictionary of the distinct `characters`; the unknown symbol's sign is none if it is a symbol."""
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
        """How many ids there are, symbols included: the model's vocabulary size."""
        return self.first_id + len(self.characters)

    @cached_property
    def dtype(self) -> np.dtype[np.unsignedinteger]:
        """The smallest unsigned dtype that holds every id."""
        return np.min_scalar_type(len(self) - 1)

    @cached_property
    def _lookup(self) -> npt.NDArray[np.int64]:
        """Code point to id; -1 where the dictionary has none."""
        table = np.full(max((ord(c) for c in self.characters), default=0) + 2, -1, dtype=np.int64)
        for position, char in enumerate(self.characters):
            table[ord(char)] = self.first_id + position
        return table

    def encode(self, text: str) -> npt.NDArray[np.int64]:
        """Return ids, int64 [len(text)]; a character that has none is UNKNOWN, or -1 without the unknown symbol."""
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        ids = self._lookup[np.minimum(codes, len(self._lookup) - 1)]
        if self.unknown:
            ids[ids < 0] = UNKNOWN
        return ids

    def decode(self, ids: Sequence[int] | Ids) -> str:
        """Return the text of `ids`; symbols that are no character are shown by their signs."""
        return "".join(self.symbols[int(i)] for i in ids)

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        """The reverse dictionary: id to the character, or to a symbol's sign."""
        own = (*((UNKNOWN_SIGN,) if self.unknown else ()), *((BEGIN_SIGN, END_SIGN) if self.bounded else ()))
        return (PADDING_SIGN, *own, *self.characters)

    def save(self, path: Path) -> None:
        """Write the dictionary as JSON."""
        ends = {"begin": self.begin, "end": self.end} if self.bounded else {}
        write_json(
            path,
            {
                "padding": PADDING,
                "unknown": UNKNOWN if self.unknown else None,
                **ends,
                "characters": self.characters,
            },
        )

    @classmethod
    def load(cls, path: Path) -> "Dictionary":
        """Return the dictionary that `path` holds; UserError if the file is missing or is none."""
        try:
            content = read_json(path)
            characters = tuple(content["characters"])
            found = cls(characters, unknown=content["unknown"] is not None, bounded=content.get("begin") is not None)
            symbols = (content["unknown"], content.get("begin"), content.get("end"))
        except FileNotFoundError:
            raise UserError(f"{path}: no such file; `dvc repro` makes it") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise UserError(f"{path}: not a dictionary; allowed is JSON with characters and unknown") from None
        if not all(isinstance(c, str) and len(c) == 1 for c in characters):
            raise UserError(f"{path}: not a dictionary; allowed are single characters")
        allowed = (UNKNOWN if found.unknown else None, found.begin, found.end)
        if symbols != allowed:
            raise UserError(f"{path}: not a dictionary; found unknown, begin, end {symbols}, allowed is {allowed}")
        return found

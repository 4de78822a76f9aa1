"""Compares the character frequencies of two texts, this one and the champion's.

The frequencies are a small table that is logged with every model. It has the characters and the unknown symbol, which
replaces characters, but not the other symbols.
"""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.core.errors import UserError
from pipeline.core.files import whole_file
from pipeline.dataset.dictionary import UNKNOWN, Dictionary
from pipeline.splitting.assignment import NAMES

Counts = npt.NDArray[np.int64]

MOST = np.iinfo(np.int64).max


def write_alphabet(path: Path, dictionary: Dictionary, counts: Mapping[str, Counts]) -> None:
    """Write one row per character of `dictionary`, by code point.

    `counts` maps the name of each split to the frequencies of its ids, int64 [at least all ids].
    """
    ids = [*([UNKNOWN] if dictionary.unknown else []), *range(dictionary.first_id, len(dictionary))]
    with whole_file(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["codepoint", "character", *NAMES])
        for char, one in sorted((dictionary.symbols[one], one) for one in ids):
            times = [int(counts[side][one]) if side in counts else 0 for side in NAMES]
            table.writerow([f"U+{ord(char):04X}", char if char.isprintable() else "", *times])


def read_alphabet(lines: Iterable[str]) -> dict[str, int]:
    """Return the frequency of each character in the whole text, from the lines of a file by `write_alphabet`.

    UserError if the lines are something else.
    """
    try:
        found = {
            chr(int(row["codepoint"].removeprefix("U+"), 16)): sum(int(row[side]) for side in NAMES)
            for row in csv.DictReader(lines)
        }
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError, csv.Error):
        found = {}
    if not found or not all(0 <= count <= MOST for count in found.values()):
        raise UserError("not a table of characters")
    return found


# The maximal number of new characters that a message names.
NAMED = 5


@dataclass(frozen=True)
class Drift:
    """How an alphabet differs from an earlier one.

    `new`: the characters that only the later text has, the most frequent first; `share`: their share of that text.
    `divergence`: the Jensen-Shannon divergence of the character frequencies in bits, 0 if they are equal and 1 if the
    texts have no character in common.
    """

    new: tuple[str, ...]
    share: float
    divergence: float

    def exceeds(self, max_drift: float) -> bool:
        """Return whether to warn: there are new characters, or the divergence is over `max_drift`."""
        return bool(self.new) or self.divergence > max_drift

    def format(self) -> str:
        """Return the drift in words."""
        parts = []
        if self.new:
            named = ", ".join(repr(char) for char in self.new[:NAMED])
            more = ", …" if len(self.new) > NAMED else ""
            count = f"{len(self.new)} new character{'s' if len(self.new) > 1 else ''}"
            parts.append(f"{count} ({named}{more}; {100 * self.share:.3g} % of the text)")
        return ", ".join([*parts, f"Jensen-Shannon divergence {self.divergence:.3g} bits"])


def drift(before: Mapping[str, int], after: Mapping[str, int]) -> Drift:
    """Compare a text with an earlier one; both arguments map characters to their numbers of occurrences."""
    new = sorted(
        (char for char, count in after.items() if count and not before.get(char)), key=lambda c: (-after[c], c)
    )
    total = sum(after.values())
    return Drift(
        new=tuple(new),
        share=sum(after[char] for char in new) / total if total else 0.0,
        divergence=divergence(before, after),
    )


def divergence(before: Mapping[str, int], after: Mapping[str, int]) -> float:
    """Return the Jensen-Shannon divergence of two texts' character frequencies, in bits (Lin 1991); 0 if one is empty.

    This is the mean of the Kullback-Leibler divergences of both distributions from their mean.
    """
    characters = sorted(before.keys() | after.keys())
    counts = np.array([[text.get(char, 0) for char in characters] for text in (before, after)], dtype=np.float64)
    totals = counts.sum(axis=1, keepdims=True)
    if not characters or not totals.all():
        return 0.0
    shares = counts / totals
    mean = shares.mean(axis=0)
    return min(max(float((_information(shares[0], mean) + _information(shares[1], mean)) / 2), 0.0), 1.0)


def _information(shares: npt.NDArray[np.float64], mean: npt.NDArray[np.float64]) -> float:
    there = shares > 0
    return float((shares[there] * np.log2(shares[there] / mean[there])).sum())

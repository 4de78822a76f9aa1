"""How often each character stands in the text, on each side of the split: a small table that is kept with every model.

What is no character is left out, but the unknown symbol: it stands for characters.
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

    `counts` has how often each id stands in each side, int64 [at least all ids], by the side's name.
    """
    ids = [*([UNKNOWN] if dictionary.unknown else []), *range(dictionary.first_id, len(dictionary))]
    with whole_file(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["codepoint", "character", *NAMES])
        for char, one in sorted((dictionary.symbols[one], one) for one in ids):
            times = [int(counts[side][one]) if side in counts else 0 for side in NAMES]
            table.writerow([f"U+{ord(char):04X}", char if char.isprintable() else "", *times])


def read_alphabet(lines: Iterable[str]) -> dict[str, int]:
    """Return how often each character stands in the whole text, from what `write_alphabet` wrote.

    UserError if it is something else.
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


# New characters that are named; the others are counted.
NAMED = 5


@dataclass(frozen=True)
class Drift:
    """`new` are the characters that only the later text has, the most frequent first, `share` theirs of that text.

    `divergence` is the Jensen-Shannon divergence of the two frequencies, in bits: 0 of equal ones, 1 of texts without a
    character in common.
    """

    new: tuple[str, ...]
    share: float
    divergence: float

    def over(self, max_drift: float) -> bool:
        """Return whether it is worth a warning."""
        return bool(self.new) or self.divergence > max_drift

    def format(self) -> str:
        """Return it in words."""
        parts = []
        if self.new:
            named = ", ".join(repr(char) for char in self.new[:NAMED])
            more = ", …" if len(self.new) > NAMED else ""
            count = f"{len(self.new)} new character{'s' if len(self.new) > 1 else ''}"
            parts.append(f"{count} ({named}{more}; {100 * self.share:.3g} % of the text)")
        return ", ".join([*parts, f"Jensen-Shannon divergence {self.divergence:.3g} bits"])


def drift(before: Mapping[str, int], after: Mapping[str, int]) -> Drift:
    """Return how far a text is from an earlier one, given how often each character stands in them."""
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
    """Return the Jensen-Shannon divergence of two texts' frequencies of characters, in bits (Lin 1991).

    It is the mean of each one's Kullback-Leibler divergence from the mean of both. 0 if one text is empty.
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

"""How often each character stands in the text, on each side of the split: a small table that is kept with every model.

What is no character is left out, but the unknown symbol: it stands for characters.
"""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.dataset.dictionary import UNKNOWN, Dictionary
from pipeline.dataset.sides import NAMES
from pipeline.errors import UserError
from pipeline.files import whole_file

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

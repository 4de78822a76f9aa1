"""A sample of a text's substrings that is small enough to be saved with every model trained on it.

A model that starts from another one has in effect read that one's training text too, which is no longer here. So each
model's folder has the smallest hashes of its training text's 50-character substrings. Which substrings those are
depends only on the substrings: of another text, those with a hash in the same range are looked up, and the share that
is found estimates its overlap. (The `bottom k` sketch of Cohen and Kaplan 2007; the sketch of two texts is the smallest
hashes of both of theirs.) Hashes are of characters, not of ids, which differ between dictionaries.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.core.errors import UserError
from pipeline.core.files import whole_file
from pipeline.dataset.arrays import load_array
from pipeline.dataset.dictionary import BEGIN_MARK, END_MARK, Dictionary, Ids
from pipeline.text.documents import Hashes
from pipeline.validation.comparisons import LENGTH, pieces
from pipeline.validation.kernels import hash_substrings

# At most a MiB. Of a base of 12 million characters it has 1.1 % of the substrings.
SIZE = 1 << 17
# Hashes that are looked at together: sorting the first ones takes longest, since all others are compared with them.
BLOCK = 1 << 17
ALL, ZERO = np.uint64(2**64 - 1), np.uint64(0)


def sketch(text: Ids, dictionary: Dictionary, *, base: Hashes | None = None, size: int = SIZE) -> Hashes:
    """Return the `size` smallest distinct hashes of the substrings of `text`, and of those in `base`: uint64, rising.

    `text` is integers [ids], and may be larger than memory.
    """
    found = np.empty(0, dtype=np.uint64) if base is None else base
    waiting: list[Hashes] = []
    for hashes in _hashes(text, dictionary):
        # Above the largest of `size` hashes none is among the smallest.
        waiting.append(hashes[hashes < found[-1]] if len(found) >= size else hashes.copy())
        if sum(map(len, waiting)) >= size:
            found, waiting = _smallest([found, *waiting], size), []
    return _smallest([found, *waiting], size)


def _smallest(parts: list[Hashes], size: int) -> Hashes:
    found = np.sort(np.concatenate(parts))  # np.unique takes ten times as long
    return found[np.diff(found, prepend=ZERO) > 0][:size]


def estimated_overlap(text: Ids, dictionary: Dictionary, other: Hashes, *, size: int = SIZE) -> float:
    """Return about which share of the substrings of `text` occurs in the text whose sketch is `other`.

    0 if none of its substrings is in the sketch's range.
    """
    limit = other[-1] if len(other) >= size else ALL
    sampled, hits = 0, 0
    for hashes in _hashes(text, dictionary):
        own = hashes[hashes <= limit]
        sampled += len(own)
        hits += int(np.isin(own, other).sum())
    return hits / sampled if sampled else 0.0


def save_sketch(path: Path, hashes: Hashes) -> None:
    """Write a sketch."""
    with whole_file(path) as part, part.open("wb") as file:
        np.save(file, hashes, allow_pickle=False)


def load_sketch(path: Path) -> Hashes | None:
    """Return the sketch in `path`; None if there is no file, UserError if it is damaged."""
    if not path.exists():
        return None
    found: Hashes = np.array(load_array(path, np.uint64))
    if not (found[1:] > found[:-1]).all():
        raise UserError(f"{path}: not a sketch: its hashes do not rise")
    return found


def _hashes(text: Ids, dictionary: Dictionary) -> Iterator[Hashes]:
    """Yield the hashes of all substrings of `text`, in pieces."""
    symbols = list(dictionary.symbols)
    if dictionary.begin is not None and dictionary.end is not None:
        symbols[dictionary.begin], symbols[dictionary.end] = BEGIN_MARK, END_MARK
    codes = np.array([ord(symbol) for symbol in symbols], dtype=np.uint32)
    for _, piece in pieces(text, LENGTH):
        # An id beyond the dictionary is refused by an expectation; here it only must not fail.
        own = np.empty(len(piece), dtype=np.uint64)
        count = hash_substrings(codes.take(piece, mode="clip"), LENGTH, ord(BEGIN_MARK), ord(END_MARK), 0, 1, own)
        for start in range(0, count, BLOCK):
            yield own[start : min(start + BLOCK, count)]

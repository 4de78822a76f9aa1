"""Compares the eval text with what was trained on (leakage), and a text's characters with the champion's (drift)."""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.core.errors import UserError
from pipeline.core.files import whole_file
from pipeline.core.reproducible import available_cores, ordered_map
from pipeline.dataset.arrays import chunks_of, load_array
from pipeline.dataset.dictionary import BEGIN_MARK, END_MARK, UNKNOWN, Dictionary, Ids
from pipeline.dataset.sides import NAMES, TRAIN, side_rule
from pipeline.params.text import SplitParams
from pipeline.text.documents import Hashes, buffers, flags, hash_texts, join_hashes
from pipeline.validation.kernels import add_keys, find_substrings, hash_substrings

LENGTH = 50
# The maximal number of substrings that are searched for: their hashes and the set of them take about 110 MiB.
MOST = 4_000_000


def overlap(text: Ids, other: Ids, dictionary: Dictionary, *, length: int = LENGTH, most: int = MOST) -> float:
    """Return the share of the substrings of `text` that occur anywhere in `other`; 0 if it is too short to have one."""
    return overlaps([text], other, dictionary, length=length, most=most)[0]


def overlaps(
    texts: Sequence[Ids], other: Ids, dictionary: Dictionary, *, length: int = LENGTH, most: int = MOST
) -> list[float]:
    """Return `overlap` for each of several texts; `other`, which may be far larger than memory, is read once.

    All are integers [ids]. A substring is `length` consecutive ids, at every position, or, if there may be more than
    `most`, at every n-th one: up to 200 million ids no copy of 100 is missed. No substring crosses the begin or the end
    of a document. Substrings are compared by 64-bit hashes.
    """
    begin, end = (-1, -1) if dictionary.begin is None or dictionary.end is None else (dictionary.begin, dictionary.end)
    step = -(-max(sum(map(len, texts)), 1) // most)
    hashes = [_hashes(text, length, begin, end, step) for text in texts]
    total = sum(map(len, hashes))
    if not total:
        return [0.0] * len(texts)

    # The set of all of their substrings; then `other` is searched for them by several threads.
    size = 1 << max(2 * total, 64).bit_length()
    keys, marks = np.zeros(size, dtype=np.uint64), np.zeros(size, dtype=np.uint8)
    found = np.zeros(size, dtype=np.bool_)
    for own in hashes:
        add_keys(own, keys, marks)

    def find(piece: Ids) -> None:
        find_substrings(piece, length, begin, end, keys, marks, found)

    for _ in ordered_map(find, (piece for _, piece in pieces(other, length)), threads=available_cores()):
        pass
    copied = keys[found]
    return [int(np.isin(own, copied).sum()) / len(own) if len(own) else 0.0 for own in hashes]


def _hashes(text: Ids, length: int, begin: int, end: int, step: int) -> npt.NDArray[np.uint64]:
    """Return the hashes of the substrings of `text` that start at multiples of `step`, uint64 [n]."""
    found = [np.empty(0, dtype=np.uint64)]
    for at, piece in pieces(text, length):
        own = np.empty(-(-len(piece) // step), dtype=np.uint64)
        found.append(own[: hash_substrings(piece, length, begin, end, at, step, own)])
    return np.concatenate(found)


def pieces(ids: Ids, length: int) -> Iterator[tuple[int, Ids]]:
    """Yield `ids` in pieces, each with the number of its first id; every substring is in exactly one of them."""
    at, before = 0, ids[:0]
    for chunk in chunks_of(ids):
        piece = np.concatenate([before, chunk])
        yield at, piece
        before = piece[max(len(piece) - length + 1, 0) :]
        at += len(piece) - len(before)


# A model that starts from another one has in effect read that one's training text too, which is no longer here. So each
# model's folder has a sketch: the smallest hashes of its training text's substrings. Which substrings those are depends
# only on the substrings: of another text, those with a hash in the same range are looked up, and the share that is
# found estimates its overlap. (The `bottom k` sketch of Cohen and Kaplan 2007; the sketch of two texts is the smallest
# hashes of both of theirs.) Hashes are of characters, not of ids, which differ between dictionaries.

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
    for hashes in _hashes_of_characters(text, dictionary):
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
    for hashes in _hashes_of_characters(text, dictionary):
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


def _hashes_of_characters(text: Ids, dictionary: Dictionary) -> Iterator[Hashes]:
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


def copied_documents(batches: Iterable[pa.RecordBatch], params: SplitParams, *, total: int) -> dict[str, int]:
    """Return for each side but train how many of its documents have the text of a document of train.

    `batches` are the clean documents, of together `total` characters. A split that cuts through documents
    (`by: position` of a stream or of lines) has no document on two sides: its overlap says what is copied. Texts are
    compared by 64-bit hashes, 8 bytes for each document.
    """
    if params.by == "position" and params.samples != "documents":
        return {}
    hashes: list[list[Hashes]] = [[] for _ in NAMES]
    for found, sides in _documents(batches, params, total):
        for side in range(len(NAMES)):
            hashes[side].append(found[sides == side])
    by_side = [np.concatenate([np.empty(0, dtype=np.uint64), *parts]) for parts in hashes]
    train = np.unique(by_side[TRAIN])
    return {name: int(np.isin(by_side[side], train).sum()) for side, name in enumerate(NAMES) if side != TRAIN}


def _documents(
    batches: Iterable[pa.RecordBatch], params: SplitParams, total: int
) -> Iterator[tuple[Hashes, npt.NDArray[np.int8]]]:
    """Yield for each batch the hashes of the documents that end in it and have text, uint64 [n], and their sides."""
    rule = side_rule(params, total=total)
    begun, size = 0, 0  # hash and bytes of the rows so far of a document that has not ended
    for batch in batches:
        sides, last = rule(batch), flags(batch.column("last"))
        part = np.asarray(batch.column("part"))
        hashes, sizes = hash_texts(batch.column("text")), np.diff(buffers(batch.column("text"))[1])
        for row in np.flatnonzero(~last | (part > 0)).tolist():
            if part[row] == 0:
                begun, size = 0, 0
            begun, size = join_hashes(begun, int(hashes[row]), int(sizes[row])), size + int(sizes[row])
            hashes[row], sizes[row] = begun, size
        whole = last & (sizes > 0)
        yield hashes[whole], sides[whole]


Counts = npt.NDArray[np.int64]

LARGEST_COUNT = np.iinfo(np.int64).max


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
    if not found or not all(0 <= count <= LARGEST_COUNT for count in found.values()):
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

"""Splits on disk: one flat array of ids and what its samples are; arrays are memory-mapped when read.

    ids.npy            unsigned integer [ids]: the split's text; of documents each between a begin and an end symbol
    samples.json       whether the samples are windows of one stream or documents, and the buckets' lengths
    documents.npy      int64 [documents]: where each document's begin symbol stands (documents only)
    bucket_00100.npy   int64 [samples, 2]: start and length of the samples of bucket 100 (documents only)

The text is stored once: inputs and labels are two views of it, one character apart.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pipeline.core.errors import UserError
from pipeline.core.files import read_json
from pipeline.dataset.arrays import give_back, load_array
from pipeline.dataset.dictionary import Ids

Rows = npt.NDArray[np.int64]

CHUNK = 1 << 20


class Samples(Protocol):
    """The samples of one bucket, in the order of their starts."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def rows(self, numbers: npt.NDArray[np.int64]) -> Rows:
        """Return the samples of these numbers, int64 [n, 2] (start, length)."""
        ...


@dataclass(frozen=True)
class Table:
    """Samples that are listed: int64 [n, 2], in memory or memory-mapped."""

    array: Rows

    def __len__(self) -> int:
        """How many there are."""
        return len(self.array)

    def rows(self, numbers: npt.NDArray[np.int64]) -> Rows:
        """Return the samples of these numbers, int64 [n, 2]."""
        rows = np.asarray(self.array[numbers])
        give_back(self.array)
        return rows


@dataclass(frozen=True)
class Windows:
    """The windows of one length among those that a stream is cut into: every `cycle` ids one, from `offset` on.

    `rounds` of them are whole; `tail`, int64 [few, 2], is what stands at the stream's end.
    """

    length: int
    cycle: int
    offset: int
    rounds: int
    tail: Rows

    def __len__(self) -> int:
        """How many there are."""
        return self.rounds + len(self.tail)

    def rows(self, numbers: npt.NDArray[np.int64]) -> Rows:
        """Return the windows of these numbers, int64 [n, 2]."""
        rows = np.empty((len(numbers), 2), dtype=np.int64)
        rows[:, 0] = numbers * self.cycle + self.offset
        rows[:, 1] = self.length
        late = numbers >= self.rounds
        if late.any():
            rows[late] = self.tail[numbers[late] - self.rounds]
        return rows


def cut_windows(num_ids: int, buckets: tuple[int, ...]) -> dict[int, Windows]:
    """Cut a stream of `num_ids` ids into windows that do not overlap; returns those of each bucket.

    The windows take the lengths of `buckets` in turn (with one bucket: all of that length), so that each bucket is
    trained on; what is left at the end goes to the smallest bucket that holds it. Every id but the first is the label
    of exactly one position.
    """
    positions = max(num_ids - 1, 0)
    cycle = sum(buckets)
    rounds = positions // cycle
    tails: dict[int, list[tuple[int, int]]] = {length: [] for length in buckets}
    start = rounds * cycle
    while (rest := positions - start) > 0:
        length = next((bucket for bucket in buckets if bucket >= rest), buckets[-1])
        tails[length].append((start, min(rest, length)))
        start += length
    offsets = np.cumsum([0, *buckets[:-1]]).tolist()
    return {
        length: Windows(length, cycle, offset, rounds, np.array(tails[length], dtype=np.int64).reshape(-1, 2))
        for length, offset in zip(buckets, offsets, strict=True)
    }


def cut_documents(starts: Rows, ends: Rows, buckets: tuple[int, ...]) -> dict[int, Rows]:
    """Cut documents into samples; returns int64 [n, 2] for each bucket, in the order of their starts.

    `starts` and `ends`, int64 [n], are where each document's begin and end symbols stand. A document with p positions
    (its characters and the end symbol) is one sample of the smallest bucket that holds p; of a longer one than the
    longest bucket, whole windows of that are cut off first.
    """
    positions = ends - starts
    longest = buckets[-1]
    whole = (positions - 1) // longest  # windows that are followed by another
    first = np.repeat(np.cumsum(whole) - whole, whole)
    within = np.arange(int(whole.sum()), dtype=np.int64) - first
    cut = np.stack([np.repeat(starts, whole) + within * longest, np.full(len(within), longest)], axis=1)
    rest = np.stack([starts + whole * longest, positions - whole * longest], axis=1)
    held_by = np.searchsorted(buckets, rest[:, 1])
    samples = {length: rest[held_by == at] for at, length in enumerate(buckets)}
    together = np.concatenate([samples[longest], cut])
    samples[longest] = together[np.argsort(together[:, 0], kind="stable")]
    return samples


def chunks_of_samples(samples: Samples, size: int = CHUNK) -> Iterator[Rows]:
    """Yield all samples in their order, int64 [at most size, 2] at a time."""
    for at in range(0, len(samples), size):
        yield samples.rows(np.arange(at, min(at + size, len(samples)), dtype=np.int64))


def num_positions(samples: Samples) -> int:
    """Return how many positions have a label, in all samples."""
    if isinstance(samples, Windows):
        return samples.rounds * samples.length + int(samples.tail[:, 1].sum())
    return sum(int(rows[:, 1].sum()) for rows in chunks_of_samples(samples))


SAMPLES_FILE = "samples.json"


@dataclass(frozen=True)
class Split:
    """The ids of one split and its samples by bucket length.

    `documents`, int64 [documents], are where each document begins; None if the text is one stream.
    """

    ids: Ids
    buckets: Mapping[int, Samples]
    documents: npt.NDArray[np.int64] | None = None

    @property
    def num_samples(self) -> int:
        """Samples in all buckets."""
        return sum(len(samples) for samples in self.buckets.values())

    @cached_property
    def num_positions(self) -> int:
        """Positions that have a label, in all samples: what one epoch predicts."""
        return sum(num_positions(samples) for samples in self.buckets.values())

    def windows(self, window: int) -> Samples:
        """Return the whole text in windows of `window` positions, whatever the buckets are: what is evaluated.

        A document begins a new window.
        """
        if self.documents is None:
            return cut_windows(len(self.ids), (window,))[window]
        return Table(cut_documents(self.documents, self.ends, (window,))[window])

    @property
    def ends(self) -> npt.NDArray[np.int64]:
        """Where each document's end symbol stands, int64 [documents]: before the next begins."""
        starts = np.empty(0, dtype=np.int64) if self.documents is None else np.asarray(self.documents)
        return np.append(starts[1:], len(self.ids)) - 1 if len(starts) else starts


def load_split(folder: Path) -> Split:
    """Return the split in `folder`, memory-mapped; UserError if files are missing or no arrays."""
    ids = load_array(folder / "ids.npy")
    try:
        said = read_json(folder / SAMPLES_FILE)
        kind, lengths = said["samples"], tuple(map(int, said["buckets"]))
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{folder / SAMPLES_FILE}: missing or damaged; `dvc repro` or `dvc checkout` brings it back"
        ) from None
    if kind == "stream":
        return Split(ids, cut_windows(len(ids), lengths))
    tables = {length: Table(load_array(bucket_file(folder, length))) for length in lengths}
    return Split(ids, tables, load_array(folder / "documents.npy"))


def bucket_file(folder: Path, length: int) -> Path:
    """Return the file of the table of a bucket's samples."""
    return folder / f"bucket_{length:05d}.npy"

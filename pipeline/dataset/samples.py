"""Samples: how ids are cut into windows, and in which bucket each stands.

A sample is (start, length): its inputs are ids[start : start + length], its labels the ids one further on. Samples of a
bucket have at most the bucket's length; a shorter one is padded when it is batched. The windows of one long stream are
computed from their number, so that they take no memory; those of documents lie in a table.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pipeline.dataset.counting import give_back

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

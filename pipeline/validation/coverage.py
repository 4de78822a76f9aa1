"""Checks that the samples of a split cover its text: every character is a label exactly once, in its place.

Ids and samples are read once, in order and in chunks, so memory does not grow with the text.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import numpy.typing as npt

from pipeline.core.reproducible import available_cores, ordered_map
from pipeline.dataset.arrays import Samples, Spans, chunks_of, chunks_of_samples
from pipeline.dataset.dictionary import PADDING, Dictionary, Ids
from pipeline.dataset.splits import Split, gather
from pipeline.validation.kernels import add_spans, count_misplaced, tally

# The number of samples read at once, roughly as many as start in a stretch.
READ = 1 << 17


@dataclass(frozen=True)
class Stretch:
    """Ids `at` to `at + size` of a split. `ids` also has the following ones, as far as a sample may reach.

    `samples` are those that start in the stretch and lie within the text, by bucket: int64 [n, 2] of (start, length).
    """

    at: int
    size: int
    ids: Ids
    samples: dict[int, Spans]


def stretches(split: Split) -> Iterator[Stretch]:
    """Yield the stretches of `split`. A sample that is out of order may be in none of them."""
    longest = max(split.buckets, default=0)
    readers = {bucket: _Reader(samples, bucket, len(split.ids)) for bucket, samples in split.buckets.items()}
    at, held = 0, split.ids[:0]
    for chunk in chain(chunks_of(split.ids), [split.ids[:0]]):
        if len(held):
            ids = np.concatenate([held, chunk[:longest]])
            samples = {bucket: reader.take(at, at + len(held)) for bucket, reader in readers.items()}
            yield Stretch(at=at, size=len(held), ids=ids, samples=samples)
        at, held = at + len(held), np.array(chunk)


def within(samples: Spans, bucket: int, num_ids: int) -> npt.NDArray[np.bool_]:
    """Return which `samples`, int64 [n, 2], lie within a text of `num_ids` ids and their bucket, bool [n]."""
    start, length = samples[:, 0], samples[:, 1]
    return (start >= 0) & (length > 0) & (length <= bucket) & (start < num_ids - length)


class _Reader:
    """Reads one bucket's samples in order."""

    def __init__(self, samples: Samples, bucket: int, num_ids: int) -> None:
        self._chunks = (rows[within(rows, bucket, num_ids)] for rows in chunks_of_samples(samples, READ))
        self._held = np.empty((0, 2), dtype=np.int64)

    def take(self, begin: int, end: int) -> Spans:
        """Return the next samples: those that start at `begin` or later, and before `end`."""
        while not len(self._held) or self._held[-1, 0] < end:
            if (more := next(self._chunks, None)) is None:
                break
            self._held = np.concatenate([self._held, more])
        early = self._held[:, 0] < end
        taken, self._held = self._held[early], self._held[~early]
        return taken[taken[:, 0] >= begin]


# Positions in a batch that is checked: its inputs (2 MiB) fit into a core's cache.
POSITIONS = 1 << 18

Places = npt.NDArray[np.int64]


@dataclass
class Covered:
    """Counts of faults in a split's samples; all are 0 if the split is right.

    Every id except the first of a stream and begin symbols must be a label exactly once. `unlabelled`: ids that are
    never a label. `repeated`: surplus uses as a label. `labelled_begins`: begin symbols that are a label. `unbounded`:
    begin and end symbols that are missing, or are not where a document begins or ends. `misplaced_labels`: for each
    bucket, the places in its batches whose input or label is not that of the text.
    """

    unlabelled: int = 0
    repeated: int = 0
    labelled_begins: int = 0
    unbounded: int = 0
    misplaced_labels: dict[int, int] = field(default_factory=dict)


def cover(split: Split, dictionary: Dictionary) -> Covered:
    """Return the faults of `split`. Batches are gathered by the code that training uses, and compared with the text."""
    covered = Covered(misplaced_labels=dict.fromkeys(split.buckets, 0))
    labels = _Labels(covered, -1 if dictionary.begin is None else dictionary.begin)
    bounds = _Bounds(covered, split, dictionary)

    def compared(stretch: Stretch) -> tuple[Stretch, dict[int, int]]:
        return stretch, {bucket: misplaced_labels(stretch, bucket) for bucket in stretch.samples}

    for stretch, wrong in ordered_map(compared, stretches(split), threads=available_cores()):
        for bucket, count in wrong.items():
            covered.misplaced_labels[bucket] += count
        labels.add(stretch)
        bounds.add(stretch)
    bounds.end()
    return covered


def misplaced_labels(stretch: Stretch, bucket: int) -> int:
    """Return the number of places in the batches of a bucket's samples that differ from the text."""
    wrong = 0
    samples = stretch.samples[bucket] - np.array([stretch.at, 0])
    for at in range(0, len(samples), max(POSITIONS // bucket, 1)):
        own = samples[at : at + max(POSITIONS // bucket, 1)]
        batch = gather(stretch.ids, own, bucket)
        wrong += int(count_misplaced(stretch.ids, own, batch.inputs, batch.labels, PADDING))
    return wrong


class _Labels:
    """Counts how often each id is a label. Counts of samples that reach into the next stretch are carried over."""

    def __init__(self, covered: Covered, begin: int) -> None:
        self.covered = covered
        self.begin = begin
        self._carried = np.ones(1, dtype=np.int32)  # the first id of the text has no id before it that could predict it

    def add(self, stretch: Stretch) -> None:
        times = np.zeros(len(stretch.ids), dtype=np.int32)
        times[: len(self._carried)] = self._carried
        for samples in stretch.samples.values():
            add_spans(times, samples, stretch.at)
        if stretch.at == 0 and stretch.ids[0] == self.begin:
            times[0] = 0
        unlabelled, repeated, begins = tally(times[: stretch.size], stretch.ids[: stretch.size], self.begin)
        self.covered.unlabelled += int(unlabelled)
        self.covered.repeated += int(repeated)
        self.covered.labelled_begins += int(begins)
        self._carried = times[stretch.size :]


class _Bounds:
    """Compares the positions of begin and end symbols with those at which documents begin and end."""

    def __init__(self, covered: Covered, split: Split, dictionary: Dictionary) -> None:
        self.covered = covered
        self.begin, self.end_symbol = dictionary.begin, dictionary.end
        starts = np.empty(0, dtype=np.int64) if split.documents is None else split.documents
        self._begins, self._ends = _InOrder(chunks_of(starts)), _InOrder(_ends(starts, len(split.ids)))

    def add(self, stretch: Stretch) -> None:
        if self.begin is None:
            return
        ids = stretch.ids[: stretch.size]
        for symbol, wanted in ((self.begin, self._begins), (self.end_symbol, self._ends)):
            found = np.flatnonzero(ids == symbol) + stretch.at
            listed = wanted.take(len(found))
            self.covered.unbounded += int((found[: len(listed)] != listed).sum()) + len(found) - len(listed)

    def end(self) -> None:
        """Count the documents that are listed after the last symbol."""
        self.covered.unbounded += self._begins.rest() + self._ends.rest()


def _ends(starts: Places, num_ids: int) -> Iterator[Places]:
    """Yield the positions of the documents' last ids: just before the next document begins."""
    first = True
    for chunk in chunks_of(starts):
        yield np.asarray(chunk[1:] if first else chunk) - 1
        first = False
    if not first:
        yield np.array([num_ids - 1])


class _InOrder:
    """Re-chunks a stream of numbers: `take` returns any number of them."""

    def __init__(self, chunks: Iterator[Places]) -> None:
        self._chunks = chunks
        self._held = np.empty(0, dtype=np.int64)

    def take(self, count: int) -> Places:
        """Return the next `count` numbers, or fewer at the end."""
        while len(self._held) < count:
            if (more := next(self._chunks, None)) is None:
                break
            self._held = np.concatenate([self._held, more])
        taken, self._held = self._held[:count], self._held[count:]
        return taken

    def rest(self) -> int:
        """Return how many numbers are left, and consume them."""
        return len(self._held) + sum(len(chunk) for chunk in self._chunks)

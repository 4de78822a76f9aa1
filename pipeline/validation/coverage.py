"""A split gone through from begin to end: some ids at a time, with the samples that start among them.

Memory does not grow with the text: ids and samples are read in their order, once.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import numpy.typing as npt

from pipeline.core.threads import available_cores, ordered_map
from pipeline.dataset.arrays import chunks_of
from pipeline.dataset.batches import gather
from pipeline.dataset.dictionary import PADDING, Dictionary, Ids
from pipeline.dataset.splits import Samples, Spans, Split, chunks_of_samples
from pipeline.validation.kernels.coverage import add_spans, count_misplaced, tally

# Samples that are read at once: about those of a stretch.
READ = 1 << 17


@dataclass(frozen=True)
class Stretch:
    """Ids `at` to `at + size` of a split. `ids` goes on behind them as far as a sample may reach.

    `samples`, int64 [n, 2] for each bucket, are those that start in the stretch and lie within the text.
    """

    at: int
    size: int
    ids: Ids
    samples: dict[int, Spans]


def stretches(split: Split) -> Iterator[Stretch]:
    """Yield the stretches of `split`. A sample that stands after one of a later stretch is in none."""
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
    """Gives one bucket's samples in their order."""

    def __init__(self, samples: Samples, bucket: int, num_ids: int) -> None:
        self._chunks = (rows[within(rows, bucket, num_ids)] for rows in chunks_of_samples(samples, READ))
        self._held = np.empty((0, 2), dtype=np.int64)

    def take(self, begin: int, end: int) -> Spans:
        """Return the next samples, those that start from `begin` on and before `end`."""
        while not len(self._held) or self._held[-1, 0] < end:
            if (more := next(self._chunks, None)) is None:
                break
            self._held = np.concatenate([self._held, more])
        early = self._held[:, 0] < end
        taken, self._held = self._held[early], self._held[~early]
        return taken[taken[:, 0] >= begin]


# What is batched at once: 2 MiB of inputs stay in a core's cache.
POSITIONS = 1 << 18

Places = npt.NDArray[np.int64]


@dataclass
class Covered:
    """What holds of a whole split.

    `unlabelled` and `repeated` count the ids that no sample has as a label, and how often others are one too many
    times: every id but a stream's first and the begin symbols is to be the label of one position. `labelled_begins`
    counts begin symbols that are labels, `unbounded` begin and end symbols that do not stand where documents begin and
    end, or are lacking there. `misplaced_labels` counts, for each bucket, the places in its batches that do not hold
    the text.
    """

    unlabelled: int = 0
    repeated: int = 0
    labelled_begins: int = 0
    unbounded: int = 0
    misplaced_labels: dict[int, int] = field(default_factory=dict)


def cover(split: Split, dictionary: Dictionary) -> Covered:
    """Return what holds of `split`: its batches are made as they are for training, and compared with the text."""
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
    """Return how many places in the batches of a bucket's samples do not hold the text."""
    wrong = 0
    samples = stretch.samples[bucket] - np.array([stretch.at, 0])
    for at in range(0, len(samples), max(POSITIONS // bucket, 1)):
        own = samples[at : at + max(POSITIONS // bucket, 1)]
        batch = gather(stretch.ids, own, bucket)
        wrong += int(count_misplaced(stretch.ids, own, batch.inputs, batch.labels, PADDING))
    return wrong


class _Labels:
    """Counts how many positions have each id as their label; samples that reach into the next stretch are carried."""

    def __init__(self, covered: Covered, begin: int) -> None:
        self.covered = covered
        self.begin = begin
        self._carried = np.ones(1, dtype=np.int32)  # the first id: nothing stands before it to predict it from

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
    """Compares where begin and end symbols stand with where documents begin and end."""

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
        """Count what is listed beyond the last symbol."""
        self.covered.unbounded += self._begins.rest() + self._ends.rest()


def _ends(starts: Places, num_ids: int) -> Iterator[Places]:
    """Yield where documents end: just before the next begins."""
    first = True
    for chunk in chunks_of(starts):
        yield np.asarray(chunk[1:] if first else chunk) - 1
        first = False
    if not first:
        yield np.array([num_ids - 1])


class _InOrder:
    """Gives numbers that come in chunks, so many at a time."""

    def __init__(self, chunks: Iterator[Places]) -> None:
        self._chunks = chunks
        self._held = np.empty(0, dtype=np.int64)

    def take(self, count: int) -> Places:
        """Return the next `count`, or as many as there are."""
        while len(self._held) < count:
            if (more := next(self._chunks, None)) is None:
                break
            self._held = np.concatenate([self._held, more])
        taken, self._held = self._held[:count], self._held[count:]
        return taken

    def rest(self) -> int:
        """Return how many are left."""
        return len(self._held) + sum(len(chunk) for chunk in self._chunks)

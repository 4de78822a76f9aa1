"""A split gone through from begin to end: some ids at a time, with the samples that start among them.

Memory does not grow with the text: ids and samples are read in their order, once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from pipeline.dataset.counting import chunks_of
from pipeline.dataset.dictionary import Ids
from pipeline.dataset.samples import Rows, Samples, chunks_of_samples
from pipeline.dataset.splits import Split

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
    samples: dict[int, Rows]


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


def within(samples: Rows, bucket: int, num_ids: int) -> npt.NDArray[np.bool_]:
    """Return which `samples`, int64 [n, 2], lie within a text of `num_ids` ids and their bucket, bool [n]."""
    start, length = samples[:, 0], samples[:, 1]
    return (start >= 0) & (length > 0) & (length <= bucket) & (start < num_ids - length)


class _Reader:
    """Gives one bucket's samples in their order."""

    def __init__(self, samples: Samples, bucket: int, num_ids: int) -> None:
        self._chunks = (rows[within(rows, bucket, num_ids)] for rows in chunks_of_samples(samples, READ))
        self._held = np.empty((0, 2), dtype=np.int64)

    def take(self, begin: int, end: int) -> Rows:
        """Return the next samples, those that start from `begin` on and before `end`."""
        while not len(self._held) or self._held[-1, 0] < end:
            if (more := next(self._chunks, None)) is None:
                break
            self._held = np.concatenate([self._held, more])
        early = self._held[:, 0] < end
        taken, self._held = self._held[early], self._held[~early]
        return taken[taken[:, 0] >= begin]

"""Batches: samples of one bucket, gathered from the flat ids, padded and counted."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.core.seeds import derive_seed
from pipeline.dataset.arrays import give_back
from pipeline.dataset.dictionary import PADDING, Ids
from pipeline.dataset.splits import Rows, Samples, Split, chunks_of_samples

# Samples that are shuffled at once: what an epoch's order takes of memory.
SHUFFLED_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Batch:
    """Samples of one bucket. `inputs` and `labels` are int64 [batch, length]; a label of PADDING is masked.

    With `continues` the rows go on where those of the batch before ended.
    """

    inputs: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    continues: bool = False

    @property
    def num_positions(self) -> int:
        """Positions that count: those that are no padding."""
        return int(np.count_nonzero(self.labels != PADDING))


def gather(ids: Ids, samples: Rows, length: int, *, continues: bool = False) -> Batch:
    """Return `samples` (int64 [batch, 2]) of `ids` as a batch of width `length`."""
    offsets = np.arange(length + 1, dtype=np.int64)
    at = np.minimum(samples[:, :1] + offsets, len(ids) - 1)
    window = ids[at].astype(np.int64)
    beyond = offsets[:-1] >= samples[:, 1:]
    inputs, labels = np.where(beyond, PADDING, window[:, :-1]), np.where(beyond, PADDING, window[:, 1:])
    return Batch(inputs=inputs, labels=labels, continues=continues)


def batches_per_epoch(split: Split, batch_size: int) -> int:
    """Return how many batches hold every sample once; the last ones of a bucket may be smaller."""
    parts = _num_parts(split)
    return sum(
        -(-len(range(part, len(samples), parts)) // batch_size)
        for part in range(parts)
        for samples in split.buckets.values()
    )


def epoch_batches(
    split: Split, batch_size: int, *, seed: int, epoch: int, skip: int = 0, shift: bool = False
) -> Iterator[Batch]:
    """Yield every sample of `split` once, each batch from one bucket, in an order of (seed, epoch) alone.

    A split of n times SHUFFLED_AT_ONCE samples is gone through in n parts, of which each has every n-th sample: a part
    is shuffled as a whole, so that memory does not grow with the text. The first `skip` batches are left out: a
    training that goes on has had them. With `shift` all windows of a stream begin some characters later in this epoch,
    at most a window; those at the text's end as late as they can. Documents are never shifted.
    """
    random = np.random.Generator(np.random.PCG64(derive_seed(seed, "epoch", epoch)))
    later = int(random.integers(min(split.buckets))) if shift and split.documents is None else 0
    parts = _num_parts(split)
    for part in range(parts) if parts == 1 else random.permutation(parts):
        numbers = {
            length: np.arange(part, len(samples), parts)[random.permutation(len(range(part, len(samples), parts)))]
            for length, samples in split.buckets.items()
        }
        plan = [(length, at) for length, own in numbers.items() for at in range(0, len(own), batch_size)]
        order = random.permutation(len(plan))
        for length, at in (plan[place] for place in order[skip:]):
            samples = split.buckets[length].rows(numbers[length][at : at + batch_size])
            if later:
                samples[:, 0] = np.minimum(samples[:, 0] + later, len(split.ids) - 1 - samples[:, 1])
            yield gather(split.ids, samples, length)
            give_back(split.ids)  # a sample of a large memory map brings up to 2 MB into this process
        skip = max(0, skip - len(plan))


def ordered_batches(ids: Ids, samples: Samples, length: int, batch_size: int) -> Iterator[Batch]:
    """Yield `samples` of one bucket in their order."""
    for rows in chunks_of_samples(samples, batch_size):
        yield gather(ids, rows, length)


def _num_parts(split: Split) -> int:
    return max(1, math.ceil(split.num_samples / SHUFFLED_AT_ONCE))

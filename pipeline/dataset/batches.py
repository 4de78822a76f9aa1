"""Makes batches: samples of one bucket, gathered from the flat ids and padded."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.core.seeds import derive_seed
from pipeline.dataset.arrays import release_pages
from pipeline.dataset.dictionary import PADDING, Ids
from pipeline.dataset.splits import Samples, Spans, Split, chunks_of_samples

# Samples that are shuffled at a time: this bounds the memory that the order of an epoch takes.
SHUFFLED_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Batch:
    """Samples of one bucket. `inputs` and `labels` are int64 [batch, length]; a label of PADDING is masked.

    With `continues`, each row continues the same row of the batch before.
    """

    inputs: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    continues: bool = False

    @property
    def num_positions(self) -> int:
        """The number of positions that count: those that are not padding."""
        return int(np.count_nonzero(self.labels != PADDING))


def gather(ids: Ids, samples: Spans, length: int, *, continues: bool = False) -> Batch:
    """Return `samples` (int64 [batch, 2]) of `ids` as a batch of width `length`."""
    offsets = np.arange(length + 1, dtype=np.int64)
    at = np.minimum(samples[:, :1] + offsets, len(ids) - 1)
    window = ids[at].astype(np.int64)
    beyond = offsets[:-1] >= samples[:, 1:]
    inputs, labels = np.where(beyond, PADDING, window[:, :-1]), np.where(beyond, PADDING, window[:, 1:])
    return Batch(inputs=inputs, labels=labels, continues=continues)


def batches_per_epoch(split: Split, batch_size: int) -> int:
    """Return the number of batches in an epoch; the last ones of a bucket may be smaller."""
    groups = _num_groups(split)
    return sum(
        -(-len(range(group, len(samples), groups)) // batch_size)
        for group in range(groups)
        for samples in split.buckets.values()
    )


def epoch_batches(
    split: Split, batch_size: int, *, seed: int, epoch: int, skip: int = 0, shift: bool = False
) -> Iterator[Batch]:
    """Yield every sample of `split` once, each batch from one bucket, in an order that depends only on (seed, epoch).

    So that memory does not grow with the text, a split of n times SHUFFLED_AT_ONCE samples is read in n groups, each
    of which has every n-th sample and is shuffled by itself. The first `skip` batches are omitted: a resumed training
    has seen them. With `shift`, all windows of a stream begin a number of characters later in this epoch, at most the
    smallest bucket; those at the end of the text as late as possible. Documents are never shifted.
    """
    random = np.random.Generator(np.random.PCG64(derive_seed(seed, "epoch", epoch)))
    later = int(random.integers(min(split.buckets))) if shift and split.documents is None else 0
    groups = _num_groups(split)
    for group in range(groups) if groups == 1 else random.permutation(groups):
        numbers = {
            length: np.arange(group, len(samples), groups)[random.permutation(len(range(group, len(samples), groups)))]
            for length, samples in split.buckets.items()
        }
        plan = [(length, at) for length, own in numbers.items() for at in range(0, len(own), batch_size)]
        order = random.permutation(len(plan))
        for length, at in (plan[place] for place in order[skip:]):
            samples = split.buckets[length].rows(numbers[length][at : at + batch_size])
            if later:
                samples[:, 0] = np.minimum(samples[:, 0] + later, len(split.ids) - 1 - samples[:, 1])
            yield gather(split.ids, samples, length)
            release_pages(split.ids)  # a sample of a large memory map can load 2 MB into this process
        skip = max(0, skip - len(plan))


def ordered_batches(ids: Ids, samples: Samples, length: int, batch_size: int) -> Iterator[Batch]:
    """Yield `samples` of one bucket in order."""
    for rows in chunks_of_samples(samples, batch_size):
        yield gather(ids, rows, length)


def _num_groups(split: Split) -> int:
    return max(1, math.ceil(split.num_samples / SHUFFLED_AT_ONCE))

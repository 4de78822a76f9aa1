"""Batches: samples of one bucket, gathered from the flat ids, padded and counted."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.dataset.dictionary import PADDING, Ids
from pipeline.dataset.samples import Samples
from pipeline.dataset.splits import Split
from pipeline.seeds import derive_seed


@dataclass(frozen=True)
class Batch:
    """Samples of one bucket. `inputs` and `labels` are int64 [batch, length]; a label of PADDING is masked."""

    inputs: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]

    @property
    def num_positions(self) -> int:
        """Positions that count: those that are no padding."""
        return int(np.count_nonzero(self.labels != PADDING))


def gather(ids: Ids, samples: Samples, length: int) -> Batch:
    """Return `samples` (int64 [batch, 2]) of `ids` as a batch of width `length`."""
    offsets = np.arange(length + 1, dtype=np.int64)
    at = np.minimum(samples[:, :1] + offsets, len(ids) - 1)
    window = ids[at].astype(np.int64)
    beyond = offsets[:-1] >= samples[:, 1:]
    return Batch(inputs=np.where(beyond, PADDING, window[:, :-1]), labels=np.where(beyond, PADDING, window[:, 1:]))


def batches_per_epoch(split: Split, batch_size: int) -> int:
    """Return how many batches hold every sample once; a bucket's last one may be smaller."""
    return sum(-(-len(samples) // batch_size) for samples in split.buckets.values())


def epoch_batches(
    split: Split, batch_size: int, *, seed: int, epoch: int, skip: int = 0, shift: bool = False
) -> Iterator[Batch]:
    """Yield every sample of `split` once, each batch from one bucket, in an order of (seed, epoch) alone.

    The first `skip` batches are left out: a training that goes on has had them. With `shift` all windows of the epoch
    begin some characters later, at most a window; those at the text's end as late as they can.
    """
    random = np.random.Generator(np.random.PCG64(derive_seed(seed, "epoch", epoch)))
    later = int(random.integers(min(split.buckets))) if shift else 0
    plan: list[tuple[int, Samples]] = []
    for length, samples in split.buckets.items():
        shuffled = np.asarray(samples)[random.permutation(len(samples))]
        if later:
            start, own = shuffled[:, 0], shuffled[:, 1]
            shuffled = np.stack([np.minimum(start + later, len(split.ids) - 1 - own), own], axis=1)
        plan += [(length, shuffled[at : at + batch_size]) for at in range(0, len(shuffled), batch_size)]
    for at in random.permutation(len(plan))[skip:]:
        length, samples = plan[at]
        yield gather(split.ids, samples, length)


def ordered_batches(ids: Ids, samples: Samples, length: int, batch_size: int) -> Iterator[Batch]:
    """Yield `samples` of one bucket in their order."""
    for at in range(0, len(samples), batch_size):
        yield gather(ids, samples[at : at + batch_size], length)

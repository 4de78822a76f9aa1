"""Splits on disk, their samples, and batches of these; arrays are memory-mapped when read.

    ids.npy            unsigned integer [ids]: the split's text; documents are between begin and end symbols
    samples.json       whether the samples are windows of one stream or documents, and the lengths of the buckets
    documents.npy      int64 [documents]: the position of each document's begin symbol (documents only)
    bucket_00100.npy   int64 [samples, 2]: start and length of the samples of bucket 100 (documents only)

The text is stored once: inputs and labels are two views of it, one character apart.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field
from typing_extensions import TypedDict

from pipeline.core.errors import UserError
from pipeline.core.files import read_checked
from pipeline.core.reproducible import derive_seed
from pipeline.dataset.arrays import (
    Samples,
    Spans,
    Table,
    Windows,
    chunks_of,
    chunks_of_samples,
    cut_documents,
    cut_windows,
    load_array,
    num_positions,
    release_pages,
)
from pipeline.dataset.dictionary import PADDING, Ids

SAMPLES_FILE = "samples.json"


@dataclass(frozen=True)
class Split:
    """The ids of one split and its samples by bucket length.

    `documents`, int64 [documents], are the positions of the begin symbols; None if the text is one stream.
    """

    ids: Ids
    buckets: Mapping[int, Samples]
    documents: npt.NDArray[np.int64] | None = None

    @property
    def num_samples(self) -> int:
        """The number of samples in all buckets."""
        return sum(len(samples) for samples in self.buckets.values())

    @cached_property
    def num_positions(self) -> int:
        """The number of positions with a label in all samples: what one epoch predicts."""
        return sum(num_positions(samples) for samples in self.buckets.values())

    def windows(self, window: int) -> Samples:
        """Return the whole text in windows of `window` positions, independent of the buckets: what is evaluated.

        Each document begins a new window.
        """
        if self.documents is None:
            return cut_windows(len(self.ids), (window,))[window]
        return Table(cut_documents(self.documents, self.ends, (window,))[window])

    @property
    def ends(self) -> npt.NDArray[np.int64]:
        """The position of each document's end symbol, int64 [documents]: just before the next document."""
        starts = np.empty(0, dtype=np.int64) if self.documents is None else np.asarray(self.documents)
        return np.append(starts[1:], len(self.ids)) - 1 if len(starts) else starts


def hold_out(split: Split, share: float) -> tuple[Split, Split]:
    """Return `split` without its end, and the end: about `share` of the ids, whole documents where there are some.

    Each part has at least one id or document; both are empty or whole if there is only one.
    """
    lengths = tuple(split.buckets)
    cut = round(len(split.ids) * (1 - share))
    if split.documents is None:
        rest, end = split.ids[:cut], split.ids[cut:]
        return Split(rest, cut_windows(len(rest), lengths)), Split(end, cut_windows(len(end), lengths))
    starts = np.asarray(split.documents)
    first = int(np.clip(np.searchsorted(starts, cut), 1, max(len(starts) - 1, 1)))
    at = int(starts[first]) if first < len(starts) else len(split.ids)
    kept = {length: _before(samples, at) for length, samples in split.buckets.items()}
    return Split(split.ids[:at], kept, starts[:first]), Split(split.ids[at:], {}, starts[first:] - at)


def _before(samples: Samples, at: int) -> Table:
    """Return the samples that start before position `at`."""
    array = samples.array if isinstance(samples, Table) else samples.rows(np.arange(len(samples)))
    return Table(array[: int(np.searchsorted(array[:, 0], at))])


class _Layout(TypedDict):
    """The content of samples.json."""

    samples: Literal["stream", "documents"]
    # The bounds are those of `split.buckets`.
    buckets: Annotated[list[Annotated[int, Field(ge=1, le=65_535)]], Field(min_length=1)]


def load_split(folder: Path, *, vocab_size: int | None = None) -> Split:
    """Return the split in `folder`, memory-mapped; UserError if files are missing or damaged.

    With `vocab_size` the whole split is read once, to see that every id and sample is in range: the stage `validate`
    has seen that before, and reports it in more detail, but these files may have changed since.
    """
    layout = read_checked(folder / SAMPLES_FILE, _Layout)
    lengths = tuple(layout["buckets"])
    if list(lengths) != sorted(set(lengths)):
        raise UserError(f"{folder / SAMPLES_FILE}: found buckets {list(lengths)}, allowed are rising lengths")
    ids = load_array(folder / "ids.npy") if vocab_size is None else load_ids(folder, vocab_size)
    if layout["samples"] == "stream":
        split = Split(ids, cut_windows(len(ids), lengths))
    else:
        tables = {length: Table(load_array(bucket_file(folder, length), np.int64, width=2)) for length in lengths}
        split = Split(ids, tables, load_array(folder / "documents.npy", np.int64))
    if vocab_size is not None:
        _check_ranges(folder, split)
    return split


def load_ids(folder: Path, vocab_size: int) -> Ids:
    """Return the ids of the split in `folder`, memory-mapped; UserError if one is not less than `vocab_size`."""
    ids = load_array(folder / "ids.npy")
    if not len(ids) or max(int(chunk.max()) for chunk in chunks_of(ids)) >= vocab_size:
        raise UserError(f"{folder / 'ids.npy'}: empty, or with ids from {vocab_size} on, which the dictionary lacks")
    return ids


def _check_ranges(folder: Path, split: Split) -> None:
    """Raise UserError if a sample or a document of `split` is out of range."""
    size = len(split.ids)
    for length, samples in split.buckets.items():
        if isinstance(samples, Windows):
            continue
        for rows in chunks_of_samples(samples):
            starts, lengths = rows[:, 0], rows[:, 1]
            if not ((starts >= 0) & (lengths > 0) & (lengths <= length) & (starts < size - lengths)).all():
                raise UserError(f"{bucket_file(folder, length)}: samples reach beyond the text or their bucket")
    if split.documents is not None:
        starts = np.asarray(split.documents)
        if not (len(starts) and starts[0] == 0 and (np.diff(starts) > 1).all() and starts[-1] < size - 1):
            raise UserError(f"{folder / 'documents.npy'}: not the rising positions of documents in the text")


def bucket_file(folder: Path, length: int) -> Path:
    """Return the file with the samples of a bucket."""
    return folder / f"bucket_{length:05d}.npy"


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

"""Splits on disk: one flat array of ids and what its samples are; arrays are memory-mapped when read.

    ids.npy            unsigned integer [ids]: the split's text; of documents each between a begin and an end symbol
    samples.json       whether the samples are windows of one stream or documents, and the buckets' lengths
    documents.npy      int64 [documents]: where each document's begin symbol stands (documents only)
    bucket_00100.npy   int64 [samples, 2]: start and length of the samples of bucket 100 (documents only)

The text is stored once: inputs and labels are two views of it, one character apart.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.dataset.arrays import load_array
from pipeline.dataset.dictionary import Ids
from pipeline.dataset.samples import Samples, Table, cut_documents, cut_windows, num_positions
from pipeline.errors import UserError
from pipeline.files import read_json

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

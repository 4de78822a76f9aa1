"""Splits on disk: one flat array of ids, and a table of samples per bucket; both memory-mapped when read.

    ids.npy            unsigned integer [characters], the split's text
    bucket_00100.npy   int64 [samples, 2]: start and length of the samples of bucket 100

The text is stored once: inputs and labels are two views of it, one character apart.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.dataset.dictionary import Dictionary, Ids
from pipeline.dataset.samples import Samples, cut_windows
from pipeline.errors import UserError


@dataclass(frozen=True)
class Split:
    """The ids of one split and its samples by bucket length."""

    ids: Ids
    buckets: dict[int, Samples]

    @property
    def num_samples(self) -> int:
        """Samples in all buckets."""
        return sum(len(samples) for samples in self.buckets.values())

    @property
    def num_positions(self) -> int:
        """Positions that have a label, in all samples: the characters that one epoch predicts."""
        return sum(int(samples[:, 1].sum()) for samples in self.buckets.values())


def load_split(folder: Path) -> Split:
    """Return the split in `folder`, memory-mapped; UserError if files are missing or no arrays."""
    try:
        ids = np.load(folder / "ids.npy", mmap_mode="r", allow_pickle=False)
        buckets = {
            int(path.stem.removeprefix("bucket_")): np.load(path, mmap_mode="r", allow_pickle=False)
            for path in sorted(folder.glob("bucket_*.npy"))
        }
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: not a split: {error}") from None
    return Split(ids=ids, buckets=buckets)


def write_split(
    folder: Path, pieces: Iterable[str], *, num_chars: int, dictionary: Dictionary, buckets: tuple[int, ...]
) -> str:
    """Write the split of a text given in `pieces` of together `num_chars` characters; returns the text's SHA-256.

    The ids are written as they come: the text is never in memory as a whole.
    """
    folder.mkdir(parents=True)
    digest = hashlib.sha256()
    ids = np.lib.format.open_memmap(folder / "ids.npy", mode="w+", dtype=dictionary.dtype, shape=(num_chars,))
    at = 0
    for piece in pieces:
        digest.update(piece.encode())
        encoded = dictionary.encode(piece)
        if encoded.size and encoded.min() < 0:
            raise ValueError("the dictionary lacks a character of the text")
        ids[at : at + len(piece)] = encoded
        at += len(piece)
    if at != num_chars:
        raise ValueError(f"the text has {at} characters, expected {num_chars}")
    ids.flush()
    for length, samples in cut_windows(num_chars, buckets).items():
        np.save(folder / f"bucket_{length:05d}.npy", samples, allow_pickle=False)
    return digest.hexdigest()


def cut_text(texts: Callable[[], Iterable[str]], at: int) -> tuple[Iterator[str], Iterator[str]]:
    """Return the stream `texts()` as two: the pieces before character `at`, and those from it on."""
    return _before(texts(), at), _from(texts(), at)


def _before(texts: Iterable[str], at: int) -> Iterator[str]:
    for text in texts:
        if at <= 0:
            return
        yield text[:at]
        at -= len(text)


def _from(texts: Iterable[str], at: int) -> Iterator[str]:
    for text in texts:
        if at < len(text):
            yield text[max(at, 0) :]
        at -= len(text)

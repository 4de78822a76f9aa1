"""Arrays of ids and samples: .npy files that are written row by row and read memory-mapped, with flat memory.

A sample of a text is (start, length). Samples are listed in an array, or computed from their numbers.
"""

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tokenize import TokenError
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from pipeline.core.errors import UserError, one_line
from pipeline.dataset.dictionary import Ids

# Reserved for the header, which is written at the end, when the shape is known.
HEADER_BYTES = 128


class ArrayWriter:
    """Writes an array of `dtype` and shape [rows] or, with `width`, [rows, width]."""

    def __init__(self, path: Path, dtype: npt.DTypeLike, *, width: int | None = None) -> None:
        self.dtype = np.dtype(dtype)
        self.width = width
        self.rows = 0
        self._file = path.open("wb")
        self._file.write(bytes(HEADER_BYTES))

    def append(self, rows: npt.NDArray[Any]) -> None:
        """Add rows at the end."""
        self._file.write(np.ascontiguousarray(rows, dtype=self.dtype).data)
        self.rows += len(rows)

    def close(self) -> None:
        """Write the header."""
        shape = (self.rows,) if self.width is None else (self.rows, self.width)
        header = BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": self.dtype.str, "fortran_order": False, "shape": shape})
        # numpy.lib.format: 8 bytes of magic and version, the length of the rest, a dict as text, spaces, a newline.
        text = header.getvalue()[10:].rstrip(b" \n").ljust(HEADER_BYTES - 11) + b"\n"
        self._file.seek(0)
        self._file.write(header.getvalue()[:8] + len(text).to_bytes(2, "little") + text)
        self._file.close()


@contextmanager
def array_writer(path: Path, dtype: npt.DTypeLike, *, width: int | None = None) -> Iterator[ArrayWriter]:
    """Yield a writer of the array in `path`, and close it at the end."""
    writer = ArrayWriter(path, dtype, width=width)
    try:
        yield writer
    finally:
        writer.close()


# What NumPy raises for a file that is no array: for its length, its header, or the Python literal in it.
NO_ARRAY = (OSError, ValueError, EOFError, TypeError, LookupError, SyntaxError, TokenError, MemoryError, RecursionError)


def load_array(
    path: Path, dtype: type[np.generic] = np.unsignedinteger, *, width: int | None = None
) -> npt.NDArray[Any]:
    """Return the array in `path`, memory-mapped: of a `dtype` (or a kind of it), [n] or, with `width`, [n, width].

    UserError if the file is missing or not such an array.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise OSError("found an archive of arrays, allowed is one array")
        shape = ("n",) if width is None else ("n", width)
        if not (np.issubdtype(array.dtype, dtype) and array.dtype.isnative and array.shape == (len(array), *shape[1:])):
            wanted = f"{dtype.__name__} [{', '.join(map(str, shape))}]"
            raise ValueError(f"found {array.dtype} {list(array.shape)}, allowed is {wanted}")
    except NO_ARRAY as error:
        found = one_line(error, most=200)
        raise UserError(f"{path}: not an array: {found}; `dvc repro` or `dvc checkout` restores it") from None
    return array


# Ids that are in memory at a time.
CHUNK = 1 << 22

T = TypeVar("T", bound=np.generic)


def count_ids(ids: Ids, num_ids: int) -> npt.NDArray[np.int64]:
    """Return how often each id occurs in `ids`, int64 [at least num_ids]."""
    counts = np.zeros(num_ids, dtype=np.int64)
    for chunk in chunks_of(ids):
        found = np.bincount(chunk, minlength=len(counts))
        counts = np.pad(counts, (0, len(found) - len(counts))) + found
    return counts


def chunks_of(ids: npt.NDArray[T]) -> Iterator[npt.NDArray[T]]:
    """Yield `ids` (or other numbers) in chunks of CHUNK.

    For a read-only memory map, the memory of a chunk is released when the next one is requested. Otherwise the whole
    file would stay in this process's resident set until memory is tight. A chunk that is used later is read again.
    """
    for at in range(0, len(ids), CHUNK):
        chunk = ids[at : at + CHUNK]
        yield chunk
        release_pages(chunk)


def release_pages(chunk: npt.NDArray[Any]) -> None:
    """Remove the pages of `chunk` from this process's memory, if it belongs to a read-only memory map."""
    source = getattr(chunk, "_mmap", None)  # a private name of NumPy; there is no public one
    if source is None or chunk.flags.writeable or not hasattr(mmap, "MADV_DONTNEED"):
        return
    start = chunk.ctypes.data - np.frombuffer(source, dtype=np.uint8).ctypes.data
    first = start - start % mmap.PAGESIZE
    source.madvise(mmap.MADV_DONTNEED, first, start + chunk.nbytes - first)


# Samples as (start, length), int64 [n, 2].
Spans = npt.NDArray[np.int64]

# Samples that are in memory at a time.
SAMPLES_AT_ONCE = 1 << 20


class Samples(Protocol):
    """The samples of one bucket, in the order of their starts."""

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def rows(self, numbers: npt.NDArray[np.int64]) -> Spans:
        """Return the samples with these numbers, int64 [n, 2] (start, length)."""
        ...


@dataclass(frozen=True)
class Table:
    """Samples that are listed in an array, int64 [n, 2], in memory or memory-mapped."""

    array: Spans

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.array)

    def rows(self, numbers: npt.NDArray[np.int64]) -> Spans:
        """Return the samples with these numbers, int64 [n, 2]."""
        rows = np.asarray(self.array[numbers])
        release_pages(self.array)
        return rows


@dataclass(frozen=True)
class Windows:
    """The windows of one length among those that a stream is cut into: one every `cycle` ids, the first at `offset`.

    `rounds` of them are whole; `tail`, int64 [n, 2], are those at the end of the stream.
    """

    length: int
    cycle: int
    offset: int
    rounds: int
    tail: Spans

    def __len__(self) -> int:
        """Return the number of samples."""
        return self.rounds + len(self.tail)

    def rows(self, numbers: npt.NDArray[np.int64]) -> Spans:
        """Return the windows with these numbers, int64 [n, 2]."""
        rows = np.empty((len(numbers), 2), dtype=np.int64)
        rows[:, 0] = numbers * self.cycle + self.offset
        rows[:, 1] = self.length
        late = numbers >= self.rounds
        if late.any():
            rows[late] = self.tail[numbers[late] - self.rounds]
        return rows


def cut_windows(num_ids: int, buckets: tuple[int, ...]) -> dict[int, Windows]:
    """Cut a stream of `num_ids` ids into windows that do not overlap; return those of each bucket.

    The windows have the lengths of `buckets` in turn, so that each bucket is trained on. The remainder at the end goes
    to the smallest bucket that is long enough. Every id except the first is the label of exactly one position.
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


def cut_documents(starts: Spans, ends: Spans, buckets: tuple[int, ...]) -> dict[int, Spans]:
    """Cut documents into samples; return int64 [n, 2] for each bucket, in the order of their starts.

    `starts` and `ends`, int64 [n], are the positions of each document's begin and end symbols. A document with p
    positions (its characters and the end symbol) is one sample of the smallest bucket that is at least p long; one
    longer than the longest bucket is first cut into windows of that length; the remainder is such a sample.
    """
    positions = ends - starts
    longest = buckets[-1]
    whole = (positions - 1) // longest  # windows that another one follows
    first = np.repeat(np.cumsum(whole) - whole, whole)
    within = np.arange(int(whole.sum()), dtype=np.int64) - first
    cut = np.stack([np.repeat(starts, whole) + within * longest, np.full(len(within), longest)], axis=1)
    rest = np.stack([starts + whole * longest, positions - whole * longest], axis=1)
    bucket_of = np.searchsorted(buckets, rest[:, 1])
    samples = {length: rest[bucket_of == at] for at, length in enumerate(buckets)}
    longest_samples = np.concatenate([samples[longest], cut])
    samples[longest] = longest_samples[np.argsort(longest_samples[:, 0], kind="stable")]
    return samples


def chunks_of_samples(samples: Samples, size: int = SAMPLES_AT_ONCE) -> Iterator[Spans]:
    """Yield all samples in order, int64 [at most size, 2] at a time."""
    for at in range(0, len(samples), size):
        yield samples.rows(np.arange(at, min(at + size, len(samples)), dtype=np.int64))


def num_positions(samples: Samples) -> int:
    """Return the number of positions with a label in all samples."""
    if isinstance(samples, Windows):
        return samples.rounds * samples.length + int(samples.tail[:, 1].sum())
    return sum(int(rows[:, 1].sum()) for rows in chunks_of_samples(samples))

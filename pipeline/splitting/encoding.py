"""The two passes over the text of a split: counts the characters of each side, then writes them as ids."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.core.threads import available_cores, ordered_map
from pipeline.dataset.arrays import ArrayWriter, array_writer
from pipeline.dataset.dictionary import BEGIN_MARK, END_MARK, UNKNOWN, Dictionary, Ids
from pipeline.splitting.assignment import NAMES
from pipeline.splitting.side_text import Chunk
from pipeline.text.columns import Counts, count_characters
from pipeline.text.utf8_kernels import CODES, encode


@dataclass
class Side:
    """The counts of one side: how often each code point occurs in its stream, int64 [CODES]."""

    counts: Counts = field(default_factory=lambda: np.zeros(CODES, dtype=np.int64))

    @property
    def ids(self) -> int:
        """The length of the stream in ids."""
        return int(self.counts.sum())

    @property
    def documents(self) -> int:
        """The number of documents, if they have marks."""
        return int(self.counts[ord(BEGIN_MARK)])

    @property
    def chars(self) -> int:
        """The number of characters, without marks."""
        return self.ids - self.documents - int(self.counts[ord(END_MARK)])

    @property
    def characters(self) -> set[str]:
        """The distinct characters, without marks."""
        return {chr(code) for code in np.flatnonzero(self.counts).tolist()} - {BEGIN_MARK, END_MARK}


def count_sides(chunks: Iterator[Chunk], progress: Callable[[int], None]) -> list[Side]:
    """Return the counts of each side; `progress` is called with numbers of bytes."""
    sides = [Side() for _ in NAMES]

    def counted(chunk: Chunk) -> tuple[Chunk, Counts]:
        return chunk, count_characters(chunk.data)

    for chunk, found in ordered_map(counted, chunks, threads=available_cores()):
        sides[chunk.side].counts[: len(found)] += found
        progress(len(chunk.data))
    return sides


def encode_sides(
    chunks: Iterator[Chunk], folder: Path, written: list[int], dictionary: Dictionary, progress: Callable[[int], None]
) -> dict[int, str]:
    """Write the ids of each side and the positions of its begin symbols; return the SHA-256 of each side's stream."""
    table = ids_by_code_point(dictionary)

    def encoded(chunk: Chunk) -> tuple[Chunk, Ids]:
        ids = np.empty(len(chunk.data), dtype=dictionary.dtype)
        count = int(encode(chunk.data, table, ids))
        if count < 0:
            raise ValueError(f"the dictionary lacks a character of the text: U+{-1 - count:04X}")
        return chunk, ids[:count]

    digests = {side: hashlib.sha256() for side in written}
    with ExitStack() as stack:
        writers: dict[int, ArrayWriter] = {}
        starts: dict[int, ArrayWriter] = {}
        for side in written:
            own = folder / NAMES[side]
            own.mkdir()
            writers[side] = stack.enter_context(array_writer(own / "ids.npy", dictionary.dtype))
            if dictionary.bounded:
                starts[side] = stack.enter_context(array_writer(own / "documents.npy", np.int64))

        def write(done: tuple[Chunk, Ids]) -> int:
            chunk, ids = done
            if len(ids):
                digests[chunk.side].update(chunk.data.data)
                if dictionary.bounded:
                    starts[chunk.side].append(np.flatnonzero(ids == dictionary.begin) + writers[chunk.side].rows)
                writers[chunk.side].append(ids)
            return len(chunk.data)

        # Another thread writes, in order: this one reads.
        for size in ordered_map(write, ordered_map(encoded, chunks, threads=available_cores()), threads=1):
            progress(size)
    return {side: digest.hexdigest() for side, digest in digests.items()}


def ids_by_code_point(dictionary: Dictionary) -> npt.NDArray[np.int32]:
    """Return the id of every code point, including the marks, int32 [CODES]; -1 for those without id."""
    table = np.full(CODES, UNKNOWN if dictionary.unknown else -1, dtype=np.int32)
    for position, char in enumerate(dictionary.characters):
        table[ord(char)] = dictionary.first_id + position
    if dictionary.begin is not None and dictionary.end is not None:
        table[ord(BEGIN_MARK)], table[ord(END_MARK)] = dictionary.begin, dictionary.end
    return table

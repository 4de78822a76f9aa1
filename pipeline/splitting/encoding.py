"""The two passes over the streams of a split: counting the characters of each side, and writing them as ids."""

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
from pipeline.splitting.side_text import Piece
from pipeline.text.char_table import Counts, count_characters
from pipeline.text.kernels.utf8 import CODES, encode


@dataclass
class Side:
    """What the first pass counts of one side: how often each code point stands in its stream, int64 [CODES]."""

    counts: Counts = field(default_factory=lambda: np.zeros(CODES, dtype=np.int64))

    @property
    def ids(self) -> int:
        """How long the stream is."""
        return int(self.counts.sum())

    @property
    def documents(self) -> int:
        """How many documents have begun in it, if they are marked."""
        return int(self.counts[ord(BEGIN_MARK)])

    @property
    def chars(self) -> int:
        """Its characters, without marks."""
        return self.ids - self.documents - int(self.counts[ord(END_MARK)])

    @property
    def characters(self) -> set[str]:
        """The distinct characters, without marks."""
        return {chr(code) for code in np.flatnonzero(self.counts).tolist()} - {BEGIN_MARK, END_MARK}


def count_sides(pieces: Iterator[Piece], read: Callable[[int], None]) -> list[Side]:
    """Return what each side holds; `read` is told of every so many bytes."""
    sides = [Side() for _ in NAMES]

    def counted(piece: Piece) -> tuple[Piece, Counts]:
        return piece, count_characters(piece.data)

    for piece, found in ordered_map(counted, pieces, threads=available_cores()):
        sides[piece.side].counts[: len(found)] += found
        read(len(piece.data))
    return sides


def encode_sides(
    pieces: Iterator[Piece], folder: Path, written: list[int], dictionary: Dictionary, read: Callable[[int], None]
) -> dict[int, str]:
    """Write the ids of every side, and where its documents begin; returns the SHA-256 of each side's stream."""
    table = ids_by_code_point(dictionary)

    def encoded(piece: Piece) -> tuple[Piece, Ids]:
        ids = np.empty(len(piece.data), dtype=dictionary.dtype)
        count = int(encode(piece.data, table, ids))
        if count < 0:
            raise ValueError(f"the dictionary lacks a character of the text: U+{-1 - count:04X}")
        return piece, ids[:count]

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

        def write(done: tuple[Piece, Ids]) -> int:
            piece, ids = done
            if len(ids):
                digests[piece.side].update(piece.data.data)
                if dictionary.bounded:
                    starts[piece.side].append(np.flatnonzero(ids == dictionary.begin) + writers[piece.side].rows)
                writers[piece.side].append(ids)
            return len(piece.data)

        # One thread writes, in order: this one has the reading.
        for size in ordered_map(write, ordered_map(encoded, pieces, threads=available_cores()), threads=1):
            read(size)
    return {side: digest.hexdigest() for side, digest in digests.items()}


def ids_by_code_point(dictionary: Dictionary) -> npt.NDArray[np.int32]:
    """Return the id of every code point, int32 [CODES], the marks' too; -1 for those that have none."""
    table = np.full(CODES, UNKNOWN if dictionary.unknown else -1, dtype=np.int32)
    for position, char in enumerate(dictionary.characters):
        table[ord(char)] = dictionary.first_id + position
    if dictionary.begin is not None and dictionary.end is not None:
        table[ord(BEGIN_MARK)], table[ord(END_MARK)] = dictionary.begin, dictionary.end
    return table

"""From a table of clean documents to the dictionary and the splits, in two passes, never the whole text in memory."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.corpus.kernels.utf8 import CODES, encode
from pipeline.corpus.rewriting import Counts, count_characters
from pipeline.dataset.arrays import ArrayWriter, array_writer, load_array
from pipeline.dataset.buckets import choose_buckets, lengths_of_samples
from pipeline.dataset.dictionary import BEGIN_MARK, END_MARK, UNKNOWN, UNKNOWN_SIGN, Dictionary, Ids
from pipeline.dataset.samples import cut_documents
from pipeline.dataset.sides import EVAL, NAMES, TEST, TRAIN
from pipeline.dataset.splits import SAMPLES_FILE, Split, bucket_file, load_split
from pipeline.dataset.streams import Piece, Tables, streams
from pipeline.errors import UserError
from pipeline.files import write_json
from pipeline.params.split import SplitParams
from pipeline.threads import available_cores, ordered_map

# The bucket of a stream if none is named: nothing of it is padded.
STREAM_BUCKETS = (32,)
DOCUMENTS_AT_ONCE = 1 << 20

read_nothing: Callable[[int], None] = lambda _: None  # noqa: E731


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


def build_splits(
    tables: Tables,
    folder: Path,
    params: SplitParams,
    *,
    separator: str = "\n",
    read: Callable[[int], None] = read_nothing,
) -> dict[str, Any]:
    """Write dictionary.json, train/, eval/ and, if there is one, test/ into `folder`; returns the figures.

    `tables()` gives the clean documents and is called anew for every pass; in a stream `separator` stands between two
    of them. `read` is told of every so many bytes that were counted or encoded. UserError if a side is too short to
    hold one prediction, or as the rules for sides say.
    """
    sides = _count(streams(tables, params, separator=separator), read)
    _refuse_short(sides, params)
    dictionary = _dictionary(sides, params)
    dictionary.save(folder / "dictionary.json")
    written = [side for side in (TRAIN, EVAL, TEST) if sides[side].ids]
    hashes = _encode(streams(tables, params, separator=separator), folder, written, dictionary, read)
    buckets = _cut(folder, written, params)
    figures: dict[str, Any] = {"characters": sum(side.chars for side in sides)}
    figures |= {f"{NAMES[side]}_chars": sides[side].chars for side in written}
    figures |= {"dictionary_size": len(dictionary)}
    figures |= {f"{NAMES[side]}_sha256": hashes[side] for side in written}
    if dictionary.bounded:
        figures |= {f"{NAMES[side]}_documents": sides[side].documents for side in written}
        train = load_split(folder / NAMES[TRAIN])
        figures |= {"buckets": list(buckets), "padding": round(_padding(train), 6)}
    return figures


def _count(pieces: Iterator[Piece], read: Callable[[int], None]) -> list[Side]:
    sides = [Side() for _ in NAMES]

    def counted(piece: Piece) -> tuple[Piece, Counts]:
        return piece, count_characters(piece.data)

    for piece, found in ordered_map(counted, pieces, threads=available_cores()):
        sides[piece.side].counts[: len(found)] += found
        read(len(piece.data))
    return sides


def _refuse_short(sides: list[Side], params: SplitParams) -> None:
    keys = {
        "position": f"split.train_fraction: {params.train_fraction:g}",
        "document": f"split.train_fraction: {params.train_fraction:g}",
        "column": f"split.train_until: {params.train_until}",
    }
    total = sum(side.chars for side in sides)
    asked = params.test_fraction > 0 or params.eval_until is not None
    for side in (TRAIN, EVAL, *([TEST] if asked else [])):
        if (size := sides[side].chars) < 2:  # noqa: PLR2004  one character to read and one to predict
            name = "training" if side == TRAIN else NAMES[side]
            raise UserError(
                f"{keys[params.by]} of {total} characters leaves {size} for the {name} text; allowed are at least 2"
            )


def _dictionary(sides: list[Side], params: SplitParams) -> Dictionary:
    characters = sides[TRAIN].characters
    if params.dictionary_from == "all":
        characters = characters.union(*(side.characters for side in sides))
    unknown = params.dictionary_from == "train" or UNKNOWN_SIGN in characters
    return Dictionary.of(characters, unknown=unknown, bounded=params.samples != "stream")


def _encode(
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
        for piece, ids in ordered_map(encoded, pieces, threads=available_cores()):
            if not len(ids):
                continue
            digests[piece.side].update(piece.data)
            if dictionary.bounded:
                starts[piece.side].append(np.flatnonzero(ids == dictionary.begin) + writers[piece.side].rows)
            writers[piece.side].append(ids)
            read(len(piece.data))
    return {side: digest.hexdigest() for side, digest in digests.items()}


def ids_by_code_point(dictionary: Dictionary) -> npt.NDArray[np.int32]:
    """Return the id of every code point, the marks' too, int32 [CODES]; -1 where there is none and no unknown symbol."""
    table = np.full(CODES, UNKNOWN if dictionary.unknown else -1, dtype=np.int32)
    for position, char in enumerate(dictionary.characters):
        table[ord(char)] = dictionary.first_id + position
    if dictionary.begin is not None and dictionary.end is not None:
        table[ord(BEGIN_MARK)], table[ord(END_MARK)] = dictionary.begin, dictionary.end
    return table


def _cut(folder: Path, written: list[int], params: SplitParams) -> tuple[int, ...]:
    """Write what the samples of every side are; returns the buckets' lengths."""
    if params.samples == "stream":
        buckets = STREAM_BUCKETS if params.buckets == "auto" else params.buckets
        for side in written:
            write_json(folder / NAMES[side] / SAMPLES_FILE, {"samples": "stream", "buckets": list(buckets)})
        return buckets
    if params.buckets == "auto":
        counts = sum(lengths_of_samples(ends - starts) for starts, ends in _documents(folder / NAMES[TRAIN]))
        buckets = choose_buckets(np.asarray(counts))
    else:
        buckets = params.buckets
    for side in written:
        own = folder / NAMES[side]
        with ExitStack() as stack:
            tables = {
                length: stack.enter_context(array_writer(bucket_file(own, length), np.int64, width=2))
                for length in buckets
            }
            for starts, ends in _documents(own):
                for length, rows in cut_documents(starts, ends, buckets).items():
                    tables[length].append(rows)
        write_json(own / SAMPLES_FILE, {"samples": "documents", "buckets": list(buckets)})
    return buckets


def _documents(folder: Path) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Yield where documents begin and end, int64 [n] each, some at a time."""
    starts, total = load_array(folder / "documents.npy"), len(load_array(folder / "ids.npy"))
    for at in range(0, len(starts), DOCUMENTS_AT_ONCE):
        some = np.asarray(starts[at : at + DOCUMENTS_AT_ONCE])
        following = starts[at + DOCUMENTS_AT_ONCE] if at + DOCUMENTS_AT_ONCE < len(starts) else total
        yield some, np.append(some[1:], following) - 1


def _padding(split: Split) -> float:
    """Return the share of all places in the buckets that are padding."""
    places = sum(length * len(samples) for length, samples in split.buckets.items())
    return 1 - split.num_positions / places if places else 0.0

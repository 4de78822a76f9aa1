"""Builds the splits: the dictionary, the ids of each side, and its samples in buckets."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.core.errors import UserError
from pipeline.core.files import write_json
from pipeline.core.reproducible import available_cores, ordered_map
from pipeline.dataset.arrays import ArrayWriter, array_writer, cut_documents, load_array
from pipeline.dataset.dictionary import BEGIN_MARK, END_MARK, UNKNOWN, UNKNOWN_SIGN, Dictionary, Ids
from pipeline.dataset.sides import EVAL, NAMES, TEST, TRAIN, Chunk, Tables, streams
from pipeline.dataset.splits import SAMPLES_FILE, Split, bucket_file, load_split
from pipeline.params.text import SplitParams
from pipeline.text.documents import Counts, count_characters
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


def build_splits(
    tables: Tables,
    folder: Path,
    params: SplitParams,
    *,
    separator: str = "\n",
    progress: Callable[[int], None] = lambda _: None,
) -> dict[str, Any]:
    """Write dictionary.json, train/, eval/ and, if there is a test text, test/ into `folder`; return the metrics.

    `tables(columns)` returns the batches of the clean documents and is called for every pass; in a stream, `separator`
    is between two documents. `progress` is called with numbers of bytes that were counted or encoded. UserError if a
    side is too short for one prediction, and from the rules that assign documents to sides.
    """
    sides = count_sides(streams(tables, params, separator=separator), progress)
    _refuse_short(sides, params)
    dictionary = _dictionary(sides, params)
    dictionary.save(folder / "dictionary.json")
    written = [side for side in (TRAIN, EVAL, TEST) if sides[side].ids]
    hashes = encode_sides(streams(tables, params, separator=separator), folder, written, dictionary, progress)
    buckets = write_samples([folder / NAMES[side] for side in written], params)
    figures: dict[str, Any] = {"characters": sum(side.chars for side in sides)}
    figures |= {f"{NAMES[side]}_chars": sides[side].chars for side in written}
    figures |= {"dictionary_size": len(dictionary)}
    figures |= {f"{NAMES[side]}_sha256": hashes[side] for side in written}
    if dictionary.bounded:
        figures |= {f"{NAMES[side]}_documents": sides[side].documents for side in written}
        train = load_split(folder / NAMES[TRAIN])
        figures |= {"buckets": list(buckets), "padding": round(_padding(train), 6)}
    return figures


def _refuse_short(sides: list[Side], params: SplitParams) -> None:
    total = sum(side.chars for side in sides)
    has_test = params.test_fraction > 0 or params.eval_until is not None
    for side in (TRAIN, EVAL, *([TEST] if has_test else [])):
        if (size := sides[side].chars) < 2:
            key = (
                "train_fraction" if params.by != "column" else "column" if params.train_until is None else "train_until"
            )
            key = "test_fraction" if side == TEST and params.by != "column" else key
            name = "training" if side == TRAIN else NAMES[side]
            whole = "" if params.samples == "stream" else f"; {params.samples} are not cut (split.samples)"
            raise UserError(
                f"split.{key}: {getattr(params, key)} of {total} characters leaves {size} for the {name} text; "
                f"allowed are at least 2{whole}"
            )


def _dictionary(sides: list[Side], params: SplitParams) -> Dictionary:
    characters = sides[TRAIN].characters
    if params.dictionary_from == "all":
        characters = characters.union(*(side.characters for side in sides))
    unknown = params.dictionary_from == "train" or UNKNOWN_SIGN in characters
    return Dictionary.of(characters, unknown=unknown, bounded=params.samples != "stream")


def _padding(split: Split) -> float:
    """Return the share of padding among all positions in the buckets."""
    places = sum(length * len(samples) for length, samples in split.buckets.items())
    return 1 - split.num_positions / places if places else 0.0


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


# For `buckets: auto` of a stream, which needs no padding.
STREAM_BUCKETS = (32,)

DOCUMENTS_AT_ONCE = 1 << 20


def write_samples(folders: list[Path], params: SplitParams) -> tuple[int, ...]:
    """Write the samples of the splits in `folders`, of which the first is train; return the buckets."""
    if params.samples == "stream":
        buckets = STREAM_BUCKETS if params.buckets == "auto" else params.buckets
        for folder in folders:
            write_json(folder / SAMPLES_FILE, {"samples": "stream", "buckets": list(buckets)})
        return buckets
    if params.buckets == "auto":
        counts = sum(lengths_of_samples(ends - starts) for starts, ends in _documents(folders[0]))
        buckets = choose_buckets(np.asarray(counts))
    else:
        buckets = params.buckets
    for own in folders:
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
    """Yield the positions of begin and end symbols, int64 [n] each, DOCUMENTS_AT_ONCE at a time."""
    starts, total = load_array(folder / "documents.npy", np.int64), len(load_array(folder / "ids.npy"))
    for at in range(0, len(starts), DOCUMENTS_AT_ONCE):
        chunk = np.asarray(starts[at : at + DOCUMENTS_AT_ONCE])
        following = starts[at + DOCUMENTS_AT_ONCE] if at + DOCUMENTS_AT_ONCE < len(starts) else total
        yield chunk, np.append(chunk[1:], following) - 1


# For `buckets: auto`: the largest share of padding, and the longest sample, since a network learns little from what is
# further back. Longer documents are cut.
MOST_PADDING = 0.05

LONGEST = 256

# The smallest bucket that split.buckets allows.
SHORTEST = 2


def lengths_of_samples(positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the number of samples of each length, int64 [LONGEST + 1], for documents with `positions`, int64 [n].

    Documents longer than LONGEST are cut into samples of that length and the remainder.
    """
    whole = (positions - 1) // LONGEST
    counts = np.bincount(positions - whole * LONGEST, minlength=LONGEST + 1)
    counts[LONGEST] += int(whole.sum())
    return counts


def choose_buckets(counts: npt.NDArray[np.int64]) -> tuple[int, ...]:
    """Return the fewest bucket lengths with at most MOST_PADDING of padding; among equally many, those with the least.

    `counts` is the result of `lengths_of_samples`. By dynamic programming: the least padding of samples up to length j
    in k buckets is that of samples up to some i in k - 1 buckets, and of the others in a bucket of length j.
    """
    lengths = np.arange(len(counts))
    counts = counts.copy()
    counts[SHORTEST] += counts[:SHORTEST].sum()  # padded in any case
    counts[:SHORTEST] = 0
    longest = int(lengths[counts > 0].max(initial=SHORTEST))
    samples, places = np.cumsum(counts)[: longest + 1], np.cumsum(counts * lengths)[: longest + 1]
    # padded[i, j]: the amount of padding if the samples longer than i, up to j, are in a bucket of length j.
    ends = lengths[: longest + 1]
    padded = (samples[None, :] - samples[:, None]) * ends[None, :] - (places[None, :] - places[:, None])
    padded = np.where(ends[:, None] < ends[None, :], padded.astype(np.float64), np.inf)
    padded[:, :SHORTEST] = np.inf
    least = padded[0].copy()
    choices: list[npt.NDArray[np.int64]] = []
    while least[longest] > MOST_PADDING * (least[longest] + places[longest]):
        together = least[:, None] + padded
        choices.append(np.argmin(together, axis=0))
        least = together.min(axis=0)
    chosen = [longest]
    for choice in reversed(choices):
        chosen.append(int(choice[chosen[-1]]))
    return tuple(sorted(chosen))

"""Builds the splits: the dictionary, the ids of each side, and its samples in buckets."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.core.errors import UserError
from pipeline.core.files import write_json
from pipeline.dataset.arrays import array_writer, load_array
from pipeline.dataset.dictionary import UNKNOWN_SIGN, Dictionary
from pipeline.dataset.splits import SAMPLES_FILE, Split, bucket_file, cut_documents, load_split
from pipeline.params.text import SplitParams
from pipeline.splitting.assignment import EVAL, NAMES, TEST, TRAIN
from pipeline.splitting.encoding import Side, count_sides, encode_sides
from pipeline.splitting.side_text import Tables, streams

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
    starts, total = load_array(folder / "documents.npy"), len(load_array(folder / "ids.npy"))
    for at in range(0, len(starts), DOCUMENTS_AT_ONCE):
        chunk = np.asarray(starts[at : at + DOCUMENTS_AT_ONCE])
        following = starts[at + DOCUMENTS_AT_ONCE] if at + DOCUMENTS_AT_ONCE < len(starts) else total
        yield chunk, np.append(chunk[1:], following) - 1


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
        if (size := sides[side].chars) < 2:  # noqa: PLR2004  one character as input and one to predict
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

"""From a table of clean documents to the dictionary and the splits, in two passes, never the whole text in memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.dataset.cutting import write_samples
from pipeline.dataset.dictionary import UNKNOWN_SIGN, Dictionary
from pipeline.dataset.encoding import Side, count_sides, encode_sides
from pipeline.dataset.sides import EVAL, NAMES, TEST, TRAIN
from pipeline.dataset.splits import Split, load_split
from pipeline.dataset.streams import Tables, streams
from pipeline.errors import UserError
from pipeline.params.split import SplitParams


def build_splits(
    tables: Tables,
    folder: Path,
    params: SplitParams,
    *,
    separator: str = "\n",
    read: Callable[[int], None] = lambda _: None,
) -> dict[str, Any]:
    """Write dictionary.json, train/, eval/ and, if there is one, test/ into `folder`; returns the figures.

    `tables(columns)` gives the clean documents and is called anew for every pass; in a stream `separator` stands
    between two of them. `read` is told of every so many bytes that were counted or encoded. UserError if a side is too
    short to hold one prediction, or as the rules for sides say.
    """
    sides = count_sides(streams(tables, params, separator=separator), read)
    _refuse_short(sides, params)
    dictionary = _dictionary(sides, params)
    dictionary.save(folder / "dictionary.json")
    written = [side for side in (TRAIN, EVAL, TEST) if sides[side].ids]
    hashes = encode_sides(streams(tables, params, separator=separator), folder, written, dictionary, read)
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
    asked = params.test_fraction > 0 or params.eval_until is not None
    for side in (TRAIN, EVAL, *([TEST] if asked else [])):
        if (size := sides[side].chars) < 2:  # noqa: PLR2004  one character to read and one to predict
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
    """Return the share of all places in the buckets that are padding."""
    places = sum(length * len(samples) for length, samples in split.buckets.items())
    return 1 - split.num_positions / places if places else 0.0

"""From a stream of text to the dictionary and the two splits, in two passes, never the whole text in memory."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pipeline.dataset.dictionary import Dictionary
from pipeline.dataset.splits import cut_text, write_split
from pipeline.errors import UserError
from pipeline.params.split import SplitParams


def build_splits(texts: Callable[[], Iterable[str]], folder: Path, params: SplitParams) -> dict[str, Any]:
    """Write dictionary.json, train/ and eval/ into `folder`; returns the figures.

    `texts()` gives the pieces of the stream and is called anew for every pass. The text is cut at
    round(characters * train_fraction), before anything is put into buckets. UserError if either side is too short to
    hold one prediction.
    """
    total = sum(len(text) for text in texts())
    at = round(total * params.train_fraction)
    for name, size in (("training", at), ("eval", total - at)):
        if size < 2:  # noqa: PLR2004  one character to read and one to predict
            raise UserError(
                f"split.train_fraction: {params.train_fraction} of {total} characters leaves {size} for the {name} "
                "text; allowed are at least 2"
            )
    train, rest = cut_text(texts, at)
    characters = set().union(*train)
    if params.dictionary_from == "all":
        characters = characters.union(*rest)
    dictionary = Dictionary.of(characters, unknown=params.dictionary_from == "train")
    dictionary.save(folder / "dictionary.json")
    train, rest = cut_text(texts, at)
    train_sha256 = write_split(folder / "train", train, num_chars=at, dictionary=dictionary, buckets=params.buckets)
    eval_sha256 = write_split(
        folder / "eval", rest, num_chars=total - at, dictionary=dictionary, buckets=params.buckets
    )
    return {
        "characters": total,
        "train_chars": at,
        "eval_chars": total - at,
        "dictionary_size": len(dictionary),
        "train_sha256": train_sha256,
        "eval_sha256": eval_sha256,
    }

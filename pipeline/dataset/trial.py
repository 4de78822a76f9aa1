"""Makes a split of clean documents in a scratch folder and measures what `validate` would find of it."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.corpus.shards import CHARS, read_batches
from pipeline.dataset.building import build_splits
from pipeline.dataset.copied import copied_documents
from pipeline.dataset.dictionary import Dictionary
from pipeline.dataset.facts import num_chars
from pipeline.dataset.leakage import overlap
from pipeline.dataset.sides import NAMES, characters_in
from pipeline.dataset.splits import load_split
from pipeline.errors import UserError
from pipeline.params.evaluate import EvaluateParams
from pipeline.params.split import SplitParams
from pipeline.params.train import TrainParams
from pipeline.params.validate import ValidateParams


@dataclass(frozen=True)
class Trial:
    """What a split holds: characters and samples of each side by its name, and what of eval and test is in train.

    `overlap` and `copied` are those of `leakage.overlap` and `copied.copied_documents`.
    """

    chars: dict[str, int]
    samples: dict[str, int]
    overlap: dict[str, float]
    copied: dict[str, int]
    dictionary_size: int
    longest_bucket: int


def try_split(
    clean: Path,
    folder: Path,
    params: SplitParams,
    *,
    keep_newlines: bool,
    read: Callable[[int], None] = lambda _: None,
) -> Trial:
    """Split the table in `clean` as the split stage does, in `folder`, which is removed again; UserError as the stage.

    Memory and time are those of the split stage and of `overlap`.
    """
    if params.samples == "lines" and not keep_newlines:
        raise UserError("split.samples: lines needs newlines; clean.keep_newlines is false, allowed is true")
    folder.mkdir()
    try:
        separator = "\n" if keep_newlines else " "
        build_splits(lambda columns: read_batches(clean, columns), folder, params, separator=separator, read=read)
        dictionary = Dictionary.load(folder / "dictionary.json")
        splits = {name: load_split(folder / name) for name in NAMES if (folder / name).exists()}
        train = splits["train"].ids
        total = sum(map(characters_in, read_batches(clean, [CHARS])))
        return Trial(
            chars={name: num_chars(split) for name, split in splits.items()},
            samples={name: split.num_samples for name, split in splits.items()},
            overlap={name: overlap(split.ids, train, dictionary) for name, split in splits.items() if name != "train"},
            copied=copied_documents(read_batches(clean), params, total=total),
            dictionary_size=len(dictionary),
            longest_bucket=max(splits["train"].buckets),
        )
    finally:
        shutil.rmtree(folder)


def too_much_copied(trial: Trial, params: ValidateParams) -> str | None:
    """Return why `validate` would stop because eval or test text is in train; None if it would not."""
    for name, count in trial.copied.items():
        if count:
            return f"{count:,} {name} documents are in the training text too (clean.duplicates: drop removes them)"
    for name, share in trial.overlap.items():
        if share > params.max_overlap:
            return (
                f"{share:.1%} of the {name} text occurs in the training text, allowed is {params.max_overlap:.0%} "
                "(validate.max_overlap)"
            )
    return None


def too_short(trial: Trial, train: TrainParams, evaluate: EvaluateParams) -> str | None:
    """Return why `validate` would stop because there is too little text; None if it would not."""
    if trial.samples["train"] < train.batch_size:
        return (
            f"the training text has {trial.samples['train']:,} samples, fewer than train.batch_size {train.batch_size}"
        )
    for name, chars in trial.chars.items():
        if name != "train" and chars <= evaluate.window:
            return f"the {name} text has {chars:,} characters, too few for one evaluate.window of {evaluate.window}"
    return None

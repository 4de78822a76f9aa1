"""Suggests params for a text: tries its split in a scratch folder and changes params until `validate` would pass."""

import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.cleaning.clean_documents import clean_documents
from pipeline.core.errors import UserError
from pipeline.dataset.build_splits import build_splits
from pipeline.dataset.dictionary import Dictionary
from pipeline.dataset.sides import NAMES, characters_in
from pipeline.dataset.splits import load_split
from pipeline.params.groups import Values, override
from pipeline.params.reader import parse_group
from pipeline.params.text import CleanParams, SplitParams, ValidateParams
from pipeline.params.training import EvaluateParams, TrainParams
from pipeline.survey.survey import Advice, Survey, advise
from pipeline.text.shards import CHARS, read_batches
from pipeline.validation.comparisons import copied_documents, overlap
from pipeline.validation.facts import num_chars


@dataclass(frozen=True)
class Trial:
    """The sizes of a tried split, and how much of eval and test is also in train; dicts have the splits' names as keys.

    `overlap` and `copied` are the results of `comparisons.overlap` and `copied_documents`.
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
    progress: Callable[[int], None] = lambda _: None,
) -> Trial:
    """Split the table in `clean` as the stage split does, in the temporary folder `folder`, and measure the result.

    UserError as from the stage. Takes the memory and time of the stage split and of `overlap`.
    """
    if params.samples == "lines" and not keep_newlines:
        raise UserError("split.samples: lines needs newlines; clean.keep_newlines is false, allowed is true")
    folder.mkdir()
    try:
        separator = "\n" if keep_newlines else " "
        build_splits(
            lambda columns: read_batches(clean, columns), folder, params, separator=separator, progress=progress
        )
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
    """Return the reason if `validate` would stop because eval or test text is in train, else None."""
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
    """Return the reason if `validate` would stop because there is too little text, else None."""
    if trial.samples["train"] < train.batch_size:
        return (
            f"the training text has {trial.samples['train']:,} samples, fewer than train.batch_size {train.batch_size}"
        )
    for name, chars in trial.chars.items():
        if name != "train" and chars <= evaluate.window:
            return f"the {name} text has {chars:,} characters, too few for one evaluate.window of {evaluate.window}"
    return None


ADVISED = ("clean", "split", "validate", "train", "evaluate")
# The largest share of a short text that is used to evaluate.
MOST_EVAL = 0.4
# The eval text that a short text should have, in windows of evaluate.window.
WINDOWS = 1.5


@dataclass(frozen=True)
class Suggestion:
    """Params to set, with reasons; the split that they give, if any; and why `validate` would stop, if it would."""

    advice: tuple[Advice, ...]
    trial: Trial | None
    problem: str | None


@dataclass(frozen=True)
class _Params:
    clean: CleanParams
    split: SplitParams
    validate: ValidateParams
    train: TrainParams
    evaluate: EvaluateParams


def suggest(
    found: Survey,
    documents: Path,
    scratch: Path,
    values: Values,
    *,
    given: Collection[str] = (),
    progress: Callable[[int], None] = lambda _: None,
) -> Suggestion:
    """Return params that suit the surveyed text, whose table is in the folder `documents`.

    `values` are the current params by group; keys in `given` are the user's own choice and are not changed. The clean
    text and the tried splits are written to the folder `scratch`; memory does not grow with the text. UserError for
    values that are not allowed, and if cleaning leaves no text.
    """
    first = [one for one in advise(found) if one.key not in given]
    if {**values.get("split", {}), **_changes(first)}.get("samples") == "lines":
        first = [one for one in first if one.key != "clean.keep_newlines"]
    clean = scratch / "clean"
    clean.mkdir()
    clean_documents(documents, clean, _params(values, first).clean, progress=progress)

    def tried(advice: Sequence[Advice]) -> Suggestion:
        params = _params(values, advice)
        try:
            trial = try_split(
                clean, scratch / "split", params.split, keep_newlines=params.clean.keep_newlines, progress=progress
            )
        except UserError as error:
            return Suggestion(tuple(advice), None, str(error))
        problem = too_much_copied(trial, params.validate) or too_short(trial, params.train, params.evaluate)
        return Suggestion(tuple(advice), trial, problem)

    best = tried(first)
    for remedy in (_split_otherwise, _evaluate_more, _shorter_window, _smaller_batch):
        if best.problem is None:
            break
        change = remedy(best, _params(values, best.advice), found)
        if change is not None and change.key not in given:
            other = tried([*(one for one in best.advice if one.key != change.key), change])
            best = other if _is_better(other, best) else best
    return best


def _split_otherwise(best: Suggestion, params: _Params, found: Survey) -> Advice | None:
    """Return the other way to split (by document or by position) if too much is copied, or a split is empty."""
    copied = best.trial is not None and too_much_copied(best.trial, params.validate)
    if best.trial is not None and not copied:
        return None
    why = "with the other way " + (copied or "one side would have no text")
    if params.split.by == "document":
        return Advice("split.by", "position", why)
    return Advice("split.by", "document", why) if params.split.by == "position" and found.documents > 1 else None


def _evaluate_more(best: Suggestion, params: _Params, _: Survey) -> Advice | None:
    """Return a larger eval share for a short text, so that it fills at least one window."""
    if best.trial is None or params.split.by == "column" or not _short_of_eval(best.trial, params):
        return None
    total = sum(best.trial.chars.values())
    share = params.evaluate.window * WINDOWS / total
    if share > MOST_EVAL:
        return None
    why = f"a tenth of so short a text is less than one window of {params.evaluate.window} characters"
    return Advice("split.train_fraction", f"{1 - share:.2f}", why)


def _shorter_window(best: Suggestion, params: _Params, _: Survey) -> Advice | None:
    if best.trial is None or not _short_of_eval(best.trial, params):
        return None
    chars = min(chars for name, chars in best.trial.chars.items() if name != "train")
    return Advice("evaluate.window", str(max(chars - 1, 1)), f"the eval text has only {chars:,} characters")


def _smaller_batch(best: Suggestion, params: _Params, _: Survey) -> Advice | None:
    if best.trial is None or not 0 < best.trial.samples["train"] < params.train.batch_size:
        return None
    samples = best.trial.samples["train"]
    return Advice("train.batch_size", str(samples), f"the training text has only {samples:,} samples")


def _short_of_eval(trial: Trial, params: _Params) -> bool:
    return any(chars <= params.evaluate.window for name, chars in trial.chars.items() if name != "train")


def _is_better(other: Suggestion, best: Suggestion) -> bool:
    """Return whether `other` has no problem, or has a split where `best` has none, or copies less than `best`."""
    if other.problem is None or best.trial is None or other.trial is None:
        return other.problem is None or (best.trial is None and other.trial is not None)
    return max(other.trial.overlap.values()) <= max(best.trial.overlap.values()) and not any(
        other.trial.copied.values()
    )


def _params(values: Values, advice: Sequence[Advice]) -> _Params:
    groups = override(values, [f"{one.key}={one.value}" for one in advice], groups=ADVISED)
    return _Params(
        clean=parse_group("clean", groups.get("clean"), CleanParams),
        split=parse_group("split", groups.get("split"), SplitParams),
        validate=parse_group("validate", groups.get("validate"), ValidateParams),
        train=parse_group("train", groups.get("train"), TrainParams),
        evaluate=parse_group("evaluate", groups.get("evaluate"), EvaluateParams),
    )


def _changes(advice: Sequence[Advice]) -> dict[str, str]:
    return {one.key.removeprefix("split."): one.value for one in advice if one.key.startswith("split.")}

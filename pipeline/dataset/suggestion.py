"""Params that suit a text, tried out: the text is cleaned and split as they say, and what would stop `validate` mended.

The rules of thumb are those of `corpus/advice.py`; here is what only a real split can show: how much of its eval text
also occurs in train, and whether each side has enough text.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.corpus.advice import Advice, advise
from pipeline.corpus.cleaned import clean_documents
from pipeline.corpus.survey import Survey
from pipeline.dataset.trial import Trial, too_much_copied, too_short, try_split
from pipeline.errors import UserError
from pipeline.params.clean import CleanParams
from pipeline.params.evaluate import EvaluateParams
from pipeline.params.overrides import Values, override
from pipeline.params.reader import parse_group
from pipeline.params.split import SplitParams
from pipeline.params.train import TrainParams
from pipeline.params.validate import ValidateParams

ADVISED = ("clean", "split", "validate", "train", "evaluate")
# The largest share of a short text that evaluates.
MOST_EVAL = 0.4
# Eval text that is asked of a short text, in windows of evaluate.window.
WINDOWS = 1.5


@dataclass(frozen=True)
class Suggestion:
    """What to set and why; the split that this makes, None if it makes none; why `validate` would stop, if it would."""

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
    read: Callable[[int], None] = lambda _: None,
) -> Suggestion:
    """Return what suits the text that `found` is about, whose table is in the folder `documents`.

    `values` are the groups of params.yaml that would hold otherwise; keys in `given` are the user's choice and stay.
    The folder `scratch` takes the clean text and the splits while they are tried; memory stays flat. UserError for
    values that are not allowed, and if cleaning leaves no text.
    """
    first = [one for one in advise(found) if one.key not in given]
    if {**values.get("split", {}), **_changes(first)}.get("samples") == "lines":
        first = [one for one in first if one.key != "clean.keep_newlines"]
    clean = scratch / "clean"
    clean.mkdir()
    clean_documents(documents, clean, _params(values, first).clean, read=read)

    def tried(advice: Sequence[Advice]) -> Suggestion:
        params = _params(values, advice)
        try:
            trial = try_split(
                clean, scratch / "split", params.split, keep_newlines=params.clean.keep_newlines, read=read
            )
        except UserError as error:
            return Suggestion(tuple(advice), None, str(error))
        problem = too_much_copied(trial, params.validate) or too_short(trial, params.train, params.evaluate)
        return Suggestion(tuple(advice), trial, problem)

    best = tried(first)
    for mend in (_split_otherwise, _evaluate_more, _shorter_window, _smaller_batch):
        if best.problem is None:
            break
        change = mend(best, _params(values, best.advice), found)
        if change is not None and change.key not in given:
            other = tried([*(one for one in best.advice if one.key != change.key), change])
            best = other if _is_better(other, best) else best
    return best


def _split_otherwise(best: Suggestion, params: _Params, found: Survey) -> Advice | None:
    """Return the other one of by documents and by position, if too much is copied or a side is empty."""
    copied = best.trial is not None and too_much_copied(best.trial, params.validate)
    if best.trial is not None and not copied:
        return None
    why = "with the other way " + (copied or "one side would have no text")
    if params.split.by == "document":
        return Advice("split.by", "position", why)
    return Advice("split.by", "document", why) if params.split.by == "position" and found.documents > 1 else None


def _evaluate_more(best: Suggestion, params: _Params, _: Survey) -> Advice | None:
    """Return a larger share of a short text for eval, so that a window of evaluation fits."""
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
    """Whether `other` has no problem, or can be split where `best` cannot, or has another problem than copies."""
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

"""Stores a sweep's trials as an Optuna study in SQLite, so that a sweep can resume after any kind of exit.

Trials are numbered from 1. A trial that was lost with its runner's process (user attribute `lost`) does not count; a
new trial tries its values again (attribute `again`: the number of the lost trial).
"""

import json
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from pipeline.core.errors import UserError, one_line
from pipeline.core.seeds import derive_seed
from pipeline.sweeping.definition import Definition
from pipeline.sweeping.space import Range

# The number of trials before the sampler uses their results, and before the first one may be pruned.
STARTUP, BEFORE_PRUNING = 6, 4

# How often values that were tried before are drawn again, the second half of the times at random. If all draws fail,
# the space is considered exhausted.
MAX_DRAWS = 40

# A curve predicts little before this share of the epochs, since the learning rate is still high.
WARMUP = 0.3

# Curves are compared at the same twentieth of an epoch, since evaluations differ slightly with the batch size.
STEPS_PER_EPOCH = 20

LOCK_SECONDS = 60

State = Literal["done", "pruned", "diverged", "failed"]


@dataclass(frozen=True)
class Outcome:
    """A trial that has ended: `perplexity` is evaluate's if it is done, else the last of its curve, or None.

    `values` are the searched params, `reason` is why it failed or diverged.
    """

    number: int
    state: State
    perplexity: float | None
    seconds: float
    values: dict[str, Any]
    reason: str = ""


def ranking(outcomes: list[Outcome]) -> list[Outcome]:
    """Return the trials with a result, the best first."""
    done = [outcome for outcome in outcomes if outcome.state == "done" and outcome.perplexity is not None]
    return sorted(done, key=lambda outcome: (outcome.perplexity or 0.0, outcome.number))


@dataclass(frozen=True)
class Proposal:
    """A trial before its end: its number, its searched values, and all its "key=value" options.

    `started` is in seconds since 1970.
    """

    number: int
    values: dict[str, Any]
    options: list[str]
    started: float


class Study:
    """The study of one sweep."""

    def __init__(self, study: optuna.Study, definition: Definition, *, label: str, jobs: int) -> None:
        self.definition = definition
        self.label = label
        self.jobs = jobs
        self._study = study
        self._trials: dict[int, Trial] = {}
        self._last_step = round(STEPS_PER_EPOCH * float(definition.params(definition.start() or {})["train.epochs"]))
        study.pruner = optuna.pruners.MedianPruner(
            n_startup_trials=BEFORE_PRUNING, n_warmup_steps=round(WARMUP * self._last_step), n_min_trials=3
        )

    @property
    def is_new(self) -> bool:
        """Return whether the study has no trials."""
        return not self._all()

    def recall(self, name: str) -> str | None:
        """Return the text that was saved with `remember`, None if there is none."""
        return self._study.user_attrs.get(name)

    def remember(self, name: str, value: str) -> None:
        """Save a text in the study."""
        self._study.set_user_attr(name, value)

    def counted(self) -> int:
        """Return the number of trials that are running or have ended."""
        return sum(trial.state != TrialState.WAITING for trial in self._counting())

    def ask(self) -> Proposal | None:
        """Propose a trial: a lost one again, or the sampler's next; None if the space is exhausted."""
        for draw in range(MAX_DRAWS):
            trial = self._study_for(draw).ask()
            number = trial.number + 1
            values = {key: self._suggest(trial, key) for key in self.definition.search}
            if any(one.user_attrs.get("values") == values for one in self._counting()):
                self._study.tell(trial, state=TrialState.FAIL)
                self.forget([number])
                continue
            options = self.definition.options(values, jobs=self.jobs)
            trial.set_user_attr("values", values)
            trial.set_user_attr("options", options)
            self._trials[number] = trial
            return Proposal(number, values, options, time.time())
        return None

    def running(self) -> list[Proposal]:
        """Return the trials that an earlier runner left running; those that were never started become lost."""
        left = []
        for trial in self._all(TrialState.RUNNING):
            number = trial.number + 1
            # Private, but the only way to report to a trial that another process created.
            self._trials[number] = Trial(self._study, trial._trial_id)  # noqa: SLF001
            if "options" in trial.user_attrs:
                started = trial.datetime_start.timestamp() if trial.datetime_start else time.time()
                left.append(Proposal(number, trial.user_attrs["values"], trial.user_attrs["options"], started))
            else:
                self.lose(number)
        return left

    def report(self, number: int, *, epoch: float, perplexity: float) -> bool:
        """Add a point of a trial's curve; returns whether the trial should be pruned."""
        trial, step = self._trials[number], round(STEPS_PER_EPOCH * epoch)
        trial.report(perplexity, step)
        return step < self._last_step and trial.should_prune()

    def end(self, outcome: Outcome) -> None:
        """Save the outcome of a trial."""
        trial = self._trials.pop(outcome.number)
        trial.set_user_attr("seconds", outcome.seconds)
        if outcome.reason:
            trial.set_user_attr("reason", outcome.reason)
        # A diverged training is stored as pruned, so that the sampler avoids its values.
        pruned = TrialState.PRUNED if outcome.state in {"pruned", "diverged"} else TrialState.FAIL
        done = outcome.state == "done"
        self._study.tell(trial, outcome.perplexity if done else None, None if done else pruned)

    def lose(self, number: int) -> None:
        """Save that a trial was interrupted; `propose_lost_again` repeats it."""
        trial = self._trials.pop(number)
        trial.set_user_attr("lost", value=True)
        self._study.tell(trial, state=TrialState.FAIL)

    def forget(self, numbers: list[int]) -> None:
        """Exclude failed trials from the count, since their failure was not caused by their values."""
        self._study.set_user_attr("forgotten", [*self._study.user_attrs.get("forgotten", []), *numbers])

    def propose_lost_again(self) -> None:
        """Enqueue the values of all lost trials that no later trial has repeated."""
        trials = self._all()
        taken = {trial.user_attrs.get("again") for trial in trials}
        for trial in trials:
            number = trial.number + 1
            if _is_lost(trial) and number not in taken and trial.params.keys() == self.definition.search.keys():
                self._study.enqueue_trial(trial.params, user_attrs={"again": number})

    def propose(self, values: dict[str, Any]) -> None:
        """Enqueue values to be tried next."""
        search = self.definition.search
        stored = {key: value if isinstance(search[key], Range) else json.dumps(value) for key, value in values.items()}
        self._study.enqueue_trial(stored)

    def outcomes(self) -> list[Outcome]:
        """Return the outcomes of the counted trials that have ended, by number."""
        return [_outcome(trial) for trial in self._counting() if trial.state.is_finished()]

    def options_of(self, number: int) -> list[str]:
        """Return the "key=value" options of a trial."""
        return list(self._all()[number - 1].user_attrs["options"])

    def _study_for(self, draw: int) -> optuna.Study:
        """Return the study with a new sampler for the next trial, seeded by the number of trials.

        Thus a resumed sweep proposes the same trials as an uninterrupted one, and does not repeat draws.
        """
        seed = derive_seed(0, "sweep", self.label, len(self._all())) % 2**32
        if draw < MAX_DRAWS // 2:
            self._study.sampler = optuna.samplers.TPESampler(n_startup_trials=STARTUP, seed=seed)
        else:
            self._study.sampler = optuna.samplers.RandomSampler(seed=seed)
        return self._study

    def _all(self, *states: TrialState) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=states or None)

    def _counting(self) -> list[FrozenTrial]:
        forgotten = set(self._study.user_attrs.get("forgotten", []))
        return [trial for trial in self._all() if not _is_lost(trial) and trial.number + 1 not in forgotten]

    def _suggest(self, trial: Trial, key: str) -> Any:
        dimension = self.definition.search[key]
        if not isinstance(dimension, Range):
            text = trial.suggest_categorical(key, dimension.texts())
            return dimension.choices[dimension.texts().index(text)]
        if dimension.is_whole:
            return trial.suggest_int(key, dimension.low, dimension.high, step=dimension.step or 1, log=dimension.log)
        drawn = trial.suggest_float(key, dimension.low, dimension.high, step=dimension.step, log=dimension.log)
        return dimension.rounded(drawn)


def _is_lost(trial: FrozenTrial) -> bool:
    return bool(trial.user_attrs.get("lost"))


def _outcome(trial: FrozenTrial) -> Outcome:
    reason = str(trial.user_attrs.get("reason", ""))
    pruned = "diverged" if reason else "pruned"
    points = trial.intermediate_values
    last = points[max(points)] if points else None
    return Outcome(
        number=trial.number + 1,
        state={TrialState.COMPLETE: "done", TrialState.PRUNED: pruned}.get(trial.state, "failed"),  # type: ignore[arg-type]
        perplexity=trial.value if trial.state == TrialState.COMPLETE else last,
        seconds=float(trial.user_attrs.get("seconds", 0.0)),
        values=dict(trial.user_attrs.get("values", {})),
        reason=reason,
    )


optuna.logging.set_verbosity(optuna.logging.ERROR)


@contextmanager
def open_study(path: Path, definition: Definition, *, label: str, jobs: int) -> Iterator[Study]:
    """Open the study in the file `path`, which is created if there is none.

    Raises UserError if the study has another definition or cannot be read.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna's hints are for its Python users
        try:
            storage = optuna.storages.RDBStorage(
                f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": LOCK_SECONDS}}
            )
            found = optuna.create_study(storage=storage, study_name=label, direction="minimize", load_if_exists=True)
            _check_same(found, definition, label)
            yield Study(found, definition, label=label, jobs=jobs)
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            message = one_line(getattr(error, "orig", None) or error.__cause__ or error)
            raise UserError(f"{path.name}: the sweep's database cannot be used: {message}") from None


def _check_same(study: optuna.Study, definition: Definition, label: str) -> None:
    record = definition.record()
    saved = study.user_attrs.get("definition")
    if saved is None:
        study.set_user_attr("definition", record)
        return
    for group in ("search", "params"):
        for key in sorted(saved[group].keys() | record[group].keys()):
            old, new = saved[group].get(key), record[group].get(key)
            if old != new:
                raise UserError(
                    f"sweep {label}: {key}: found {_format_value(new)}, started with {_format_value(old)}; "
                    "allowed is the same search, or another --name"
                )


def _format_value(value: Any) -> str:
    if isinstance(value, dict):
        return (
            "{" + ", ".join(f"{key}: {one}" for key, one in value.items() if one is not None and one is not False) + "}"
        )
    return repr(value)

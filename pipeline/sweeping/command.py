"""A sweep from start to end, as `charlm sweep` asks for it."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.errors import UserError
from pipeline.sweeping.definition import Definition
from pipeline.sweeping.leaderboard import best_command
from pipeline.sweeping.opening import open_study
from pipeline.sweeping.outcome import ranking
from pipeline.sweeping.parent import ParentRun
from pipeline.sweeping.runner import Runner
from pipeline.sweeping.screen import Screen
from pipeline.sweeping.study import Study
from pipeline.sweeping.trials import Trials
from pipeline.tracking.project import state_folder

LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,60}")
RUN_ID = "mlflow_run"


def run_sweep(definition: Definition, trials: Trials, *, label: str, jobs: int) -> None:
    """Run sweep `label` until it has its trials, or go on with it, and print the best.

    UserError if another sweep runs, the label is taken, or no trial has a result.
    """
    if not LABEL.fullmatch(label):
        raise UserError(f"--name: found {label!r}, allowed are up to 61 letters, digits, - and _, no - or _ first")
    environment = dict(os.environ)  # as it is before MLflow adds to it
    folder = state_folder() / "sweeps"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError("sweep: another one runs in this project; wait for it, or give it more --jobs") from None
    with lock, open_study(folder / f"{label}.db", definition, label=label, jobs=jobs) as study:
        if study.is_new:
            _begin(study, trials, label)
        _run(study, trials, folder / label, environment)


def _begin(study: Study, trials: Trials, label: str) -> None:
    if taken := trials.names(label):
        raise UserError(
            f"--name: found {label}, but the experiment {taken[0]} exists; allowed is another name, "
            f"or remove those: dvc exp remove {' '.join(taken)}"
        )
    if start := study.definition.start():
        study.propose(start)


def _run(study: Study, trials: Trials, folder: Path, environment: Mapping[str, str]) -> None:
    with Screen(list(study.definition.search)) as screen:
        parent = ParentRun(study.label, study.recall(RUN_ID), warn=screen.say)
        parent.open()
        if parent.run_id:
            study.remember(RUN_ID, parent.run_id)
        screen.say(_headline(study))
        runner = Runner(
            study, trials, screen, parent, folder=folder, jobs=study.jobs, environment=environment,
        )  # fmt: skip
        outcomes = runner.run()
    best = ranking(outcomes)
    if not best:
        raise UserError(f"sweep {study.label}: no trial has a result; what they said is in {folder}")
    screen.leaderboard(study.label, outcomes)
    screen.say("")
    screen.say(best_command(study.options_of(best[0].number)))


def _headline(study: Study) -> str:
    wanted, ended = study.definition.trials, len(study.outcomes())
    beside = f", {study.jobs} side by side" if study.jobs > 1 else ""
    return f"sweep {study.label}: {f'{ended} of ' if ended else ''}{wanted} trials{' done' if ended else ''}{beside}"

"""Runs a whole sweep for `charlm sweep`: opens its study, runs the trials, prints the best."""

import os
import re
import shlex
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from sqlalchemy.exc import SQLAlchemyError

from pipeline.core.errors import UserError, one_line
from pipeline.sweeping.definition import Definition
from pipeline.sweeping.parent import ParentRun
from pipeline.sweeping.process import Trials
from pipeline.sweeping.runner import Runner
from pipeline.sweeping.screen import Screen
from pipeline.sweeping.study import Study, ranking
from pipeline.tracking.project import state_folder


def best_command(options: list[str]) -> str:
    """Return the command that runs the pipeline with "key=value" options."""
    return " ".join(["dvc exp run", *(f"-S {shlex.quote(option)}" for option in options)])


LOCK_SECONDS = 60

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


LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,60}")
RUN_ID = "mlflow_run"


def run_sweep(definition: Definition, trials: Trials, *, label: str, jobs: int) -> None:
    """Run (or resume) sweep `label` until it has all its trials, and print the best.

    Raises UserError if another sweep is running, the label is taken, or no trial has a result.
    """
    if not LABEL.fullmatch(label):
        raise UserError(f"--name: found {label!r}, allowed are up to 61 letters, digits, - and _, no - or _ first")
    environment = dict(os.environ)  # before MLflow adds to it
    folder = state_folder() / "sweeps"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError("sweep: another one is running in this project; wait for it, or give it more --jobs") from None
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
            study,
            trials,
            screen,
            parent,
            folder=folder,
            jobs=study.jobs,
            environment=environment,
        )
        outcomes = runner.run()
    best = ranking(outcomes)
    if not best:
        raise UserError(f"sweep {study.label}: no trial has a result; their logs are in {folder}")
    screen.leaderboard(study.label, outcomes)
    screen.say("")
    screen.say(best_command(study.options_of(best[0].number)))


def _headline(study: Study) -> str:
    wanted, ended = study.definition.trials, len(study.outcomes())
    parallel = f", {study.jobs} in parallel" if study.jobs > 1 else ""
    return f"sweep {study.label}: {f'{ended} of ' if ended else ''}{wanted} trials{' done' if ended else ''}{parallel}"

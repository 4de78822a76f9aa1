"""Runs a sweep: DVC prepares the data, Optuna proposes and remembers, workers train, and the best is printed.

Optuna's storage has all that must survive this process. Trials that ended are complete or pruned; one that failed is
pruned with a reason, so that the sampler avoids it. Trials in the state FAIL do not count: they were lost, or repeats.
"""

import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import optuna
from filelock import FileLock
from optuna.distributions import BaseDistribution
from optuna.samplers import RandomSampler, TPESampler
from optuna.storages import RetryHeartbeatStaleTrialCallback as Retry
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError

from pipeline.core.errors import UserError, one_line
from pipeline.core.reproducible import derive_seed
from pipeline.core.where import Worker, WorkerLostError, WorkerPool
from pipeline.params.reader import LOCK_FILE, nested, read_yaml
from pipeline.sweeping.definition import Definition
from pipeline.sweeping.output import ENDED, FOUND, Output, ranking
from pipeline.sweeping.trial import Job, Point, Progress
from pipeline.tracking.project import dvc_environment, project_root, state_folder
from pipeline.tracking.store import check_server

# The number of trials before the sampler uses their results, and before the first one may be pruned.
STARTUP, BEFORE_PRUNING = 6, 4
# A curve predicts little before this share of the epochs, since the learning rate is still high.
WARMUP = 0.3
# Curves are compared at the same twentieth of an epoch, since evaluations differ slightly with the batch size.
STEPS_PER_EPOCH = 20
# A trial without a heartbeat for GRACE_SECONDS is repeated. One that loses its worker fails after MAX_RETRIES.
HEARTBEAT_SECONDS, GRACE_SECONDS, MAX_RETRIES = 3, 15, 2


class NotCountedError(Exception):
    """The trial is a repeat, is not needed any more, or was lost with its worker."""


def prepare_data() -> list[str]:
    """Let DVC prepare what trainings read; returns the hashes of the data. UserError if a stage fails."""
    environment = dvc_environment()
    try:
        check_server()
    except UserError:  # these stages need no server, but would refuse to start
        environment.pop("MLFLOW_TRACKING_URI")
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "-q", "validate"]
    if subprocess.run(command, env=environment, check=False).returncode:
        raise UserError("sweep: DVC could not prepare the data, see above; `dvc repro validate` shows more")
    outputs = [out for stage in read_yaml(LOCK_FILE)["stages"].values() for out in stage.get("outs", [])]
    return [out["md5"] for out in outputs if out["path"] in {"data/split", "data/start"}]


class NumberedSampler(RandomSampler):
    """Draws each trial's values with a seed of its own: that of the number of proposals before it.

    The first STARTUP trials do not depend on results, and so neither on the workers; with kind "random" none do.
    """

    def __init__(self, seed: int, kind: str) -> None:
        super().__init__(seed)
        self._root, self._kind = seed, kind

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return the value of one param."""
        before = study.get_trials(deepcopy=False)[: trial.number]
        proposals = sum(not Retry.retry_history(one) for one in before)
        seed = derive_seed(self._root, "sweep", proposals, param_name) % 2**32
        # After a repeat TPE might propose the same again.
        is_random = self._kind == "random" or proposals < STARTUP or before[-1].user_attrs.get("repeat")
        sampler = RandomSampler(seed) if is_random else TPESampler(n_startup_trials=2, seed=seed)
        return sampler.sample_independent(study, trial, param_name, param_distribution)


@contextmanager
def open_study(url: str | None, definition: Definition, name: str) -> Iterator[optuna.Study]:
    """Open the study `name` in a database, by default a file in .charlm/; UserError if it cannot be used."""
    folder, params = state_folder() / "sweeps", definition.params({})
    folder.mkdir(parents=True, exist_ok=True)
    url = url or f"sqlite:///{folder}/optuna.db"
    options = {"connect_args": {"timeout": 60, "isolation_level": None}} if url.startswith("sqlite") else {}
    warmup = round(WARMUP * STEPS_PER_EPOCH * params["train.epochs"])
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna's hints are for its Python users
        try:
            with FileLock(folder / "lock"):  # only one process creates the tables
                storage = optuna.storages.RDBStorage(
                    url,
                    options,
                    heartbeat_interval=HEARTBEAT_SECONDS,
                    grace_period=GRACE_SECONDS,
                    heartbeat_stale_trial_callback=Retry(),
                )
                if options:  # it locks when it writes, and two threads would begin the same waiting trial
                    event.listen(storage.engine, "begin", lambda one: one.exec_driver_sql("BEGIN IMMEDIATE"))
                study = optuna.create_study(
                    storage=storage,
                    study_name=name,
                    load_if_exists=True,
                    sampler=NumberedSampler(params["train.seed"], definition.sampler),
                    pruner=optuna.pruners.MedianPruner(BEFORE_PRUNING, warmup, n_min_trials=3),
                )
                if not study.get_trials(deepcopy=False) and (start := definition.start()):
                    study.add_trial(start)
            yield study
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError, ImportError) as error:
            message = one_line(getattr(error, "orig", None) or error.__cause__ or error, most=300)
            raise UserError(f"--storage: the sweep's database cannot be used: {message}") from None


class Sweep:
    """A running sweep; the workers of `pool` have a TrialRunner."""

    def __init__(self, definition: Definition, study: optuna.Study, pool: WorkerPool, output: Output) -> None:
        self.definition, self.study, self.pool, self.output = definition, study, pool, output
        self._lost: list[int] = []

    def run(self, jobs: int) -> None:
        """Run trials, `jobs` at once, until there are enough; after Ctrl-C, queue those that run to be repeated."""
        while True:
            states = [trial.state for trial in self.study.get_trials(deepcopy=False)]
            running = states.count(TrialState.RUNNING)
            missing = self.definition.wanted() - running - sum(state in ENDED for state in states)
            if missing > 0:
                self._optimize(missing, min(jobs, missing))
            elif not running:
                return
            else:
                time.sleep(1)
                optuna.storages.fail_stale_trials(self.study)

    def _optimize(self, count: int, jobs: int) -> None:
        self.pool.fill(jobs)
        optimize = partial(self.study.optimize, self._objective, count, n_jobs=jobs, catch=NotCountedError)
        try:
            # In a thread, since the main thread must react to Ctrl-C.
            with ThreadPoolExecutor(1) as threads:
                done = threads.submit(optimize, callbacks=[self.output.ended])
                try:
                    done.result()
                except BaseException:
                    self.pool.close()
                    raise
        finally:
            for number in self._lost:
                Retry()(self.study, self.study.trials[number])
            self._lost.clear()

    def _objective(self, trial: Trial) -> float:
        values = self.definition.values(trial)
        trials = self.study.get_trials(deepcopy=False)
        own, others = trials[trial.number], [one for one in trials[: trial.number] if one.state != TrialState.FAIL]
        repeat = any(one.params == own.params for one in others)
        trial.set_user_attr("repeat", repeat)
        if repeat or len(others) >= self.definition.wanted():  # another machine was faster
            raise NotCountedError
        curve: list[Point] = []
        try:
            with self.pool.lend() as worker:
                last = self._train(trial, worker, self.definition.params(values), curve)
        except WorkerLostError:
            if self.pool.is_closed or len(Retry.retry_history(own)) < MAX_RETRIES:
                self._lost.append(trial.number)
                if self.pool.is_closed:
                    self.study.stop()
                raise NotCountedError from None
            last = Progress([], error="the worker's process has ended; its memory may have been exhausted")
        seconds = round(last.seconds or (curve[-1]["seconds"] if curve else 0.0), 1)
        trial.set_user_attr(FOUND, {"values": values, "seconds": seconds, "curve": curve, "reason": last.error})
        if last.perplexity is None:
            raise optuna.TrialPruned
        return last.perplexity

    def _train(self, trial: Trial, worker: Worker, params: dict[str, Any], curve: list[Point]) -> Progress:
        """Return the trial's last progress: it is done, has failed, or is hopeless. Adds to `curve`."""
        job: Job | None = (nested(params), project_root())
        last_step = round(STEPS_PER_EPOCH * params["train.epochs"])
        while True:
            progress: Progress = worker.step(job)
            curve += progress.points
            if progress.error or progress.perplexity is not None:
                return progress
            step = round(STEPS_PER_EPOCH * curve[-1]["epoch"])
            trial.report(curve[-1]["eval_perplexity"], step)
            if step < last_step and trial.should_prune():
                return progress
            job = None


def run_sweep(definition: Definition, pool: WorkerPool, *, label: str, jobs: int, url: str | None) -> dict[str, Any]:
    """Run the sweep, or what is left of it, and print the best trials; returns the searched values of the best.

    UserError if the data cannot be prepared, the database cannot be used, or no trial has a result.
    """
    name, status = f"{label}-{definition.identity(prepare_data())}", "KILLED"
    with open_study(url, definition, name) as study:
        output, wanted = Output(name, label, definition), definition.wanted()
        states = [one.state for one in study.get_trials(deepcopy=False)]
        ended, running = sum(state in ENDED for state in states), states.count(TrialState.RUNNING)
        exhausted = ", all that the space has" if wanted < definition.trials else ""
        output.say(f"sweep {name}: {ended} of {wanted} trials done{exhausted}")
        if running:
            output.say(f"{running} more run in another process, or are repeated if it was killed")
        try:
            Sweep(definition, study, pool, output).run(jobs)
            status = "FINISHED"
        finally:
            trials = study.get_trials(deepcopy=False)
            output.send(trials, status, wait=True)
    if not (best := ranking(trials)):
        raise UserError(f"sweep {name}: no trial has a result")
    output.leaderboard(trials)
    return dict(best[0].user_attrs[FOUND]["values"])

"""Runs a whole sweep: starts, watches, prunes and counts its trials until there are enough, then prints the best.

Everything that must survive this process is in the study, in the trials' files and in their processes: after a kill,
the next runner finds the trials that are still running and continues to watch them.
"""

import json
import math
import os
import re
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.core.errors import UserError
from pipeline.evaluation.measurement import MEASUREMENT, difference, record_in
from pipeline.sweeping.definition import Definition
from pipeline.sweeping.output import ParentRun, Screen, note
from pipeline.sweeping.process import TrialProcess, Trials, remove_checkpoints
from pipeline.sweeping.study import Outcome, Proposal, State, Study, open_study, ranking
from pipeline.tracking.project import state_folder

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
        outcomes = Runner(study, trials, screen, parent, folder=folder, environment=environment).run()
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


def best_command(options: list[str]) -> str:
    """Return the command that runs the pipeline with "key=value" options."""
    return " ".join(["dvc exp run", *(f"-S {shlex.quote(option)}" for option in options)])


@dataclass(eq=False)
class RunningTrial:
    """A trial that is running: its proposal, its processes and its last perplexity.

    If it is being pruned, `prune_by` is the time (monotonic) at which it is killed, and `checkpoints` are the folders
    to remove then.
    """

    proposal: Proposal
    process: TrialProcess
    perplexity: float | None = None
    prune_by: float | None = None
    checkpoints: list[Path] = field(default_factory=list)


POLL_SECONDS = 0.25

# How long an interrupted trial may take to end: MLflow may be waiting for a server.
GRACE_SECONDS = 30.0

# This number of failures in a row is not caused by the searched params.
MAX_FAILURES = 3

# The message of a training whose loss exploded (pipeline/training/loop.py).
DIVERGED = "train: the loss is"


class Runner:
    """Runs the trials of a study; `folder` has their files, `environment` is their environment."""

    def __init__(
        self,
        study: Study,
        trials: Trials,
        screen: Screen,
        parent: ParentRun,
        *,
        folder: Path,
        environment: Mapping[str, str],
    ) -> None:
        self.study = study
        self.trials = trials
        self.screen = screen
        self.parent = parent
        self.folder = folder
        self.environment = environment
        self._running: list[RunningTrial] = []
        self._failed: list[int] = []
        self._used_up = False

    def run(self) -> list[Outcome]:
        """Run until the study has the number of trials of its definition; returns the outcomes of all.

        Raises UserError after too many failures in a row. After that error or Ctrl-C, running trials are ended; they
        are repeated when the sweep is resumed.
        """
        self._take_over()
        self.study.propose_lost_again()
        status = "KILLED"
        try:
            self._write_note()
            while self._step():
                time.sleep(POLL_SECONDS)
            status = "FINISHED"
        except UserError:
            status = "FAILED"
            raise
        finally:
            self._end_all()
            self.parent.end(status)
        return self.study.outcomes()

    def _take_over(self) -> None:
        for proposal in self.study.running():
            process = self._process(proposal.number)
            if process.adopt():
                self.screen.say(f"{process.name} is still running: watching it again")
                self._running.append(RunningTrial(proposal, process))
            elif self.trials.result(process.name) is not None:
                self._running.append(RunningTrial(proposal, process))  # it succeeded while no runner was watching
            else:
                process.clean()
                self.parent.mark_killed(process.name, pruned=False)
                self.study.lose(proposal.number)

    def _step(self) -> bool:
        """Check all trials once, and start the next one if possible; returns whether there is more to do."""
        for trial in list(self._running):
            alive = trial.process.is_alive()  # checked before its files are read, so that its last output is seen
            self._read_curve(trial)
            if not alive:
                self._running.remove(trial)
                self._finish(trial)
            elif trial.prune_by is not None and time.monotonic() > trial.prune_by:
                trial.process.kill()
        wanted = self.study.definition.trials
        more = not self._used_up and self.study.counted() < wanted
        if more and len(self._running) < self.study.jobs and self._may_start():
            self._start()
        ended = self.study.counted() - len(self._running)
        running = {f"{trial.proposal.number:04}": trial.perplexity for trial in self._running}
        self.screen.progress(ended=ended, wanted=wanted, running=running)
        return bool(self._running) or (more and not self._used_up)

    def _may_start(self) -> bool:
        return all(one.process.is_set_up() and not one.process.is_ending() for one in self._running)

    def _start(self) -> None:
        proposal = self.study.ask()
        if proposal is None:
            self._used_up = True
            self.screen.say("the search space is exhausted")
            return
        process = self._process(proposal.number)
        process.start(proposal.options, {**self.environment, **self.parent.environment()})
        self._running.append(RunningTrial(proposal, process))

    def _read_curve(self, trial: RunningTrial) -> None:
        for point in trial.process.new_points():
            trial.perplexity = point.perplexity
            hopeless = math.isfinite(point.perplexity) and self.study.report(
                trial.proposal.number, epoch=point.epoch, perplexity=point.perplexity
            )
            if hopeless and trial.prune_by is None and trial.process.is_alive():
                trial.prune_by = time.monotonic() + GRACE_SECONDS
                trial.checkpoints = trial.process.checkpoints()
                trial.process.interrupt()

    def _finish(self, trial: RunningTrial) -> None:
        process, number = trial.process, trial.proposal.number
        perplexity, reason = self.trials.result(process.name), ""
        state: State = "done"
        if perplexity is not None:
            self._check_measurement(process.name, number)
        if perplexity is None:
            process.clean()
            # Without a result it was pruned by this runner, has diverged, or has failed.
            perplexity, state = trial.perplexity, "pruned"
            if trial.prune_by is None:
                reason = process.reason()
                state = "diverged" if reason.startswith(DIVERGED) else "failed"
            else:
                remove_checkpoints(trial.checkpoints)
                self.parent.mark_killed(process.name, pruned=True)
        outcome = Outcome(
            number=number,
            state=state,
            perplexity=perplexity,
            values=trial.proposal.values,
            reason=reason,
            seconds=round(process.ended() - trial.proposal.started, 1),
        )
        self.study.end(outcome)
        best = next(iter(ranking(self.study.outcomes())), None)
        self.screen.ended(outcome, is_best=best is not None and best.number == number)
        self._write_note()
        # A series of failures is an error in the project; it must not use up the trials.
        self._failed = [*self._failed, number] if state == "failed" else []
        if len(self._failed) == MAX_FAILURES:
            self.study.forget(self._failed)
            raise UserError(
                f"sweep: {MAX_FAILURES} trials in a row failed, the last with: {reason} (see {process.log})"
            )

    def _check_measurement(self, name: str, number: int) -> None:
        """Refuse a trial that was not measured as the first one was, as when the text has changed since."""
        found = self.trials.measurement(name)
        if found is not None and not ranking(self.study.outcomes()):
            self.study.remember(MEASUREMENT, json.dumps(found))
        elif differs := difference(record_in({MEASUREMENT: self.study.recall(MEASUREMENT)}), found):
            self.study.lose(number)
            raise UserError(
                f"sweep {self.study.label}: {name} cannot be compared with the trials before it: {differs}; "
                "allowed is the same text and measurement, or another --name"
            )

    def _write_note(self) -> None:
        outcomes = self.study.outcomes()
        best = next((one.perplexity for one in ranking(outcomes)), None)
        # The step is the number of ended trials, not the trial's number: parallel trials end in another order.
        self.parent.update(note(self.study.definition, outcomes), best, step=len(outcomes))

    def _end_all(self) -> None:
        """End all running trials: interrupt them, and kill them after a second Ctrl-C or if they take too long."""
        if not self._running:
            return
        self.screen.say(f"ending {len(self._running)} running trials")
        deadline = time.monotonic() + GRACE_SECONDS
        interrupted: set[int] = set()
        try:
            while alive := [one for one in self._running if one.process.is_alive()]:
                for trial in alive:
                    # Before that, DVC is changing the workspace and will restore it.
                    if trial.proposal.number not in interrupted and trial.process.is_apart():
                        interrupted.add(trial.proposal.number)
                        trial.process.interrupt()
                    if time.monotonic() > deadline:
                        trial.process.kill()
                time.sleep(POLL_SECONDS)
        finally:
            for trial in self._running:
                trial.process.kill()
                if self.trials.result(trial.process.name) is None:
                    self.study.lose(trial.proposal.number)
            self._running.clear()

    def _process(self, number: int) -> TrialProcess:
        return TrialProcess(f"{self.study.label}-{number:04}", number, self.folder, self.trials)

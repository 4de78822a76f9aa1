"""Running a sweep: trials are started, watched, pruned and counted until there are enough.

All that must outlast this process is in the study, in the trials' own files and in their processes: a runner that
takes over after a kill finds the trials that still run and goes on watching them.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.core.errors import UserError
from pipeline.sweeping.parent import ParentRun
from pipeline.sweeping.process import TrialProcess, Trials, remove_checkpoints
from pipeline.sweeping.screen import Screen, note
from pipeline.sweeping.study import Outcome, Proposal, State, Study, ranking


@dataclass(eq=False)
class Watched:
    """Its proposal, its processes and its last perplexity.

    If it was asked to end, `prune_by` is the time (monotonic) by which it must have, and `checkpoints` are what it
    leaves.
    """

    proposal: Proposal
    process: TrialProcess
    perplexity: float | None = None
    prune_by: float | None = None
    checkpoints: list[Path] = field(default_factory=list)


POLL_SECONDS = 0.25
# How long a trial that was asked to end may take: MLflow may be waiting for a server.
GRACE_SECONDS = 30.0
# So many failures in a row are not the params' fault.
MAX_FAILURES = 3
# What a training says whose loss exploded (pipeline/training/loop.py).
DIVERGED = "train: the loss is"


class Runner:
    """Runs the trials of a study, `jobs` at a time, in `folder`; `environment` is that of the trials."""

    def __init__(
        self,
        study: Study,
        trials: Trials,
        screen: Screen,
        parent: ParentRun,
        *,
        folder: Path,
        jobs: int,
        environment: Mapping[str, str],
    ) -> None:
        self.study = study
        self.trials = trials
        self.screen = screen
        self.parent = parent
        self.folder = folder
        self.jobs = jobs
        self.environment = environment
        self._running: list[Watched] = []
        self._failed: list[int] = []
        self._used_up = False

    def run(self) -> list[Outcome]:
        """Run until the study has the trials that its definition asks for; returns how all have ended.

        UserError after too many failures in a row. When this is left early, by Ctrl-C or that error, the trials that
        run are ended, and take their turn again when the sweep goes on.
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
                self.screen.say(f"{process.name} still runs: watching it again")
                self._running.append(Watched(proposal, process))
            elif self.trials.result(process.name) is not None:
                self._running.append(Watched(proposal, process))  # it ended well while nobody watched
            else:
                process.clean()
                self.parent.mark_killed(process.name, pruned=False)
                self.study.lose(proposal.number)

    def _step(self) -> bool:
        """Look after everything once; returns whether there is more to do."""
        for watched in list(self._running):
            alive = watched.process.is_alive()  # before its files are read: what it wrote last is seen
            self._read_curve(watched)
            if not alive:
                self._running.remove(watched)
                self._finish(watched)
            elif watched.prune_by is not None and time.monotonic() > watched.prune_by:
                watched.process.kill()
        wanted = self.study.definition.trials
        more = not self._used_up and self.study.counted() < wanted
        if more and len(self._running) < self.jobs and self._may_start():
            self._start()
        ended = self.study.counted() - len(self._running)
        running = {f"{watched.proposal.number:04}": watched.perplexity for watched in self._running}
        self.screen.progress(ended=ended, wanted=wanted, running=running)
        return bool(self._running) or (more and not self._used_up)

    def _may_start(self) -> bool:
        return all(one.process.is_set_up() and not one.process.is_ending() for one in self._running)

    def _start(self) -> None:
        proposal = self.study.ask()
        if proposal is None:
            self._used_up = True
            self.screen.say("all values of so small a space have been tried")
            return
        process = self._process(proposal.number)
        process.start(proposal.options, {**self.environment, **self.parent.environment()})
        self._running.append(Watched(proposal, process))

    def _read_curve(self, watched: Watched) -> None:
        for point in watched.process.new_points():
            watched.perplexity = point.perplexity
            hopeless = math.isfinite(point.perplexity) and self.study.report(
                watched.proposal.number, epoch=point.epoch, perplexity=point.perplexity
            )
            if hopeless and watched.prune_by is None and watched.process.is_alive():
                watched.prune_by = time.monotonic() + GRACE_SECONDS
                watched.checkpoints = watched.process.checkpoints()
                watched.process.interrupt()

    def _finish(self, watched: Watched) -> None:
        process, number = watched.process, watched.proposal.number
        perplexity, reason = self.trials.result(process.name), ""
        state: State = "done"
        if perplexity is None:
            process.clean()
            perplexity, state = watched.perplexity, "pruned"
            if watched.prune_by is None:
                reason = process.reason()
                state = "diverged" if reason.startswith(DIVERGED) else "failed"
            else:
                remove_checkpoints(watched.checkpoints)
                self.parent.mark_killed(process.name, pruned=True)
        outcome = Outcome(
            number=number, state=state, perplexity=perplexity, values=watched.proposal.values, reason=reason,
            seconds=round(process.ended() - watched.proposal.started, 1),
        )  # fmt: skip
        self.study.end(outcome)
        best = next(iter(ranking(self.study.outcomes())), None)
        self.screen.ended(outcome, is_best=best is not None and best.number == number)
        self._write_note()
        self._failed = [*self._failed, number] if state == "failed" else []
        if len(self._failed) == MAX_FAILURES:
            self.study.forget(self._failed)
            raise UserError(
                f"sweep: {MAX_FAILURES} trials in a row failed, the last with: {reason} (see {process.log})"
            )

    def _write_note(self) -> None:
        outcomes = self.study.outcomes()
        best = next((one.perplexity for one in ranking(outcomes)), None)
        # By how many have ended, not by number: beside each other they end in another order.
        self.parent.update(note(self.study.definition, outcomes), best, step=len(outcomes))

    def _end_all(self) -> None:
        """End the trials that run: asked first, and killed at a second Ctrl-C or when they take too long."""
        if not self._running:
            return
        self.screen.say(f"ending {len(self._running)} running trials")
        deadline = time.monotonic() + GRACE_SECONDS
        asked: set[int] = set()
        try:
            while alive := [one for one in self._running if one.process.is_alive()]:
                for watched in alive:
                    # Until then DVC is changing the workspace, and takes it back when it is through.
                    if watched.proposal.number not in asked and watched.process.is_apart():
                        asked.add(watched.proposal.number)
                        watched.process.interrupt()
                    if time.monotonic() > deadline:
                        watched.process.kill()
                time.sleep(POLL_SECONDS)
        finally:
            for watched in self._running:
                watched.process.kill()
                if self.trials.result(watched.process.name) is None:
                    self.study.lose(watched.proposal.number)
            self._running.clear()

    def _process(self, number: int) -> TrialProcess:
        return TrialProcess(f"{self.study.label}-{number:04}", number, self.folder, self.trials)

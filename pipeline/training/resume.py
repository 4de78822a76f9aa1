"""Training that survives a crash: a trainer, its checkpoints, and the curve's points so far."""

import time
from collections.abc import Iterator
from dataclasses import asdict, replace

from pipeline.training.checkpoint import Checkpoints, Snapshot
from pipeline.training.loop import Trainer
from pipeline.training.report import Report


class ResumableTraining:
    """A training that goes on from the newest checkpoint, if there is one.

    `points` are the reports that are points of the curve, those before a crash included. `resumed_from` is the update
    after which it continues (None: from the start), `first_run` the MLflow run in which it began.
    """

    def __init__(self, trainer: Trainer, checkpoints: Checkpoints, *, run_id: str | None) -> None:
        self.trainer = trainer
        self.checkpoints = checkpoints
        self.points: list[Report] = []
        self.resumed_from: int | None = None
        self.first_run = run_id
        if snapshot := checkpoints.load():
            trainer.restore(replace(snapshot, data=snapshot.data["sums"]))
            self.points = [Report(**point) for point in snapshot.data["points"]]
            self.resumed_from = snapshot.step
            self.first_run = snapshot.data["run_id"]

    def run(self, *, checkpoint_seconds: float) -> Iterator[Report]:
        """Yield the trainer's reports; a checkpoint is written when `checkpoint_seconds` have passed since the last."""
        saved = time.monotonic()
        for report in self.trainer.run():
            if report.is_point:
                self.points.append(report)
            yield report
            if time.monotonic() - saved >= checkpoint_seconds:
                self.checkpoints.save(self._snapshot())
                saved = time.monotonic()

    def _snapshot(self) -> Snapshot:
        snapshot = self.trainer.snapshot()
        points = [asdict(point) for point in self.points]
        return replace(snapshot, data={"sums": snapshot.data, "points": points, "run_id": self.first_run})

"""Checkpoints of a training, and resuming from them after any kind of interruption.

A checkpoint is one safetensors file (tensors, and the rest as JSON in its metadata), named by its update and by the
first digits of its SHA-256, which reveals a damaged file. The folder is named by the training's key: a hash of
everything that determines the result. The last two checkpoints are retained, and none once the training has ended.
"""

import hashlib
import json
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from pipeline.core.errors import UserError
from pipeline.core.files import sha256_of, whole_file
from pipeline.training.curve import StepMetrics
from pipeline.training.loop import Snapshot, Trainer

MAX_CHECKPOINTS = 2
HASH_DIGITS = 16


def training_key(settings: dict[str, Any], files: Iterable[Path]) -> str:
    """Return the key of a training: a hash of the settings (JSON data) and of every file's name and content."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for path in files:
        digest.update(f"{path.name} {sha256_of(path)}".encode())
    return digest.hexdigest()[:32]


class Checkpoints:
    """The checkpoints of one training, in `folder`; `damaged` are the names of the files that `load` skipped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.damaged: list[str] = []

    def save(self, snapshot: Snapshot) -> None:
        """Write a checkpoint, and remove all but the newest MAX_CHECKPOINTS."""
        metadata = {"snapshot": json.dumps({"step": snapshot.step, "data": snapshot.data})}
        content = save({name: tensor.contiguous() for name, tensor in snapshot.tensors.items()}, metadata)
        name = f"{snapshot.step:012d}-{hashlib.sha256(content).hexdigest()[:HASH_DIGITS]}.safetensors"
        with whole_file(self.folder / name) as part:
            part.write_bytes(content)
        for path in self._newest_first()[MAX_CHECKPOINTS:]:
            path.unlink()

    def load(self) -> Snapshot | None:
        """Return the newest undamaged checkpoint, None if there is none."""
        for path in self._newest_first():
            if sha256_of(path)[:HASH_DIGITS] == path.stem.partition("-")[2]:
                try:
                    return _read(path)
                except (SafetensorError, ValueError, KeyError, TypeError, RecursionError):
                    pass
            self.damaged.append(path.name)
        return None

    def remove(self) -> None:
        """Remove all checkpoints, when the training has ended."""
        for path in self._newest_first():
            path.unlink(missing_ok=True)

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob("*.safetensors"), reverse=True)


@contextmanager
def open_checkpoints(parent: Path, key: str) -> Iterator[Checkpoints]:
    """Open the checkpoints of the training `key`, under a lock that ends with the process.

    Raises UserError if another training with the same key is running.
    """
    folder = parent / key
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            "train: another training with the same data, params and code is running; wait for it, or change train.seed"
        ) from None
    try:
        yield Checkpoints(folder)
    finally:
        lock.release()


def _read(path: Path) -> Snapshot:
    with safe_open(path, framework="pt") as file:
        content = json.loads(file.metadata()["snapshot"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
    return Snapshot(step=content["step"], tensors=tensors, data=content["data"])


class ResumableTraining:
    """A training that resumes from the newest checkpoint, if there is one.

    `points` are the metrics of the updates that are points of the curve, including those before the interruption.
    `resumed_from` is the update after which it resumes (None: it starts), `first_run` the id of the MLflow run in which
    it started.
    """

    def __init__(self, trainer: Trainer, checkpoints: Checkpoints, *, run_id: str | None) -> None:
        self.trainer = trainer
        self.checkpoints = checkpoints
        self.points: list[StepMetrics] = []
        self.resumed_from: int | None = None
        self.first_run = run_id
        # The trainer must get its state back before `run` draws the first batch.
        self.resume()

    def resume(self) -> None:
        """Continue from the newest checkpoint, if there is one."""
        if snapshot := self.checkpoints.load():
            self.trainer.restore(replace(snapshot, data=snapshot.data["counters"]))
            self.points = [StepMetrics(**point) for point in snapshot.data["points"]]
            self.resumed_from = snapshot.step
            self.first_run = snapshot.data["run_id"]

    def run(self, *, checkpoint_seconds: float) -> Generator[StepMetrics, None, None]:
        """Yield the trainer's metrics; writes a checkpoint when `checkpoint_seconds` have passed since the last."""
        saved = time.monotonic()
        for metrics in self.trainer.run():
            if metrics.is_point:
                self.points.append(metrics)
            yield metrics
            if time.monotonic() - saved >= checkpoint_seconds:
                self.save()
                saved = time.monotonic()

    def save(self) -> None:
        """Write a checkpoint; while `run` runs, only when it is suspended at a yield."""
        snapshot = self.trainer.snapshot()
        data = {"counters": snapshot.data, "points": [asdict(point) for point in self.points], "run_id": self.first_run}
        self.checkpoints.save(replace(snapshot, data=data))

"""Checkpoints: what a training needs to go on where it was killed, in files that are whole or not there.

A checkpoint is one safetensors file (tensors, and the rest as JSON in its metadata), named by its update and by the
first digits of its SHA-256, so that a damaged one is known. The folder is named by the key: what determines the
result. The last two are kept, and none once the training has ended.
"""

import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from pipeline.core.errors import UserError
from pipeline.core.files import sha256_of, whole_file
from pipeline.training.loop import Report, Snapshot, Trainer

KEPT = 2
DIGITS = 16


def key_of(settings: dict[str, Any], files: Iterable[Path]) -> str:
    """Return the key of a training: a hash of the settings (JSON data) and of every file's name and content."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for path in files:
        digest.update(f"{path.name} {sha256_of(path)}".encode())
    return digest.hexdigest()[:32]


class Checkpoints:
    """The checkpoints of one training."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.damaged: list[str] = []

    def save(self, snapshot: Snapshot) -> None:
        """Write a checkpoint; the older ones but one are removed."""
        metadata = {"snapshot": json.dumps({"step": snapshot.step, "data": snapshot.data})}
        content = save({name: tensor.contiguous() for name, tensor in snapshot.tensors.items()}, metadata)
        name = f"{snapshot.step:012d}-{hashlib.sha256(content).hexdigest()[:DIGITS]}.safetensors"
        with whole_file(self.folder / name) as part:
            part.write_bytes(content)
        for path in self._newest_first()[KEPT:]:
            path.unlink()

    def load(self) -> Snapshot | None:
        """Return the newest checkpoint that is whole, None if there is none; the names of others go to `damaged`."""
        for path in self._newest_first():
            if sha256_of(path)[:DIGITS] == path.stem.partition("-")[2]:
                try:
                    return _read(path)
                except (SafetensorError, ValueError, KeyError):
                    pass
            self.damaged.append(path.name)
        return None

    def remove(self) -> None:
        """Remove all checkpoints: the training has ended."""
        for path in self._newest_first():
            path.unlink()

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob("*.safetensors"), reverse=True)


@contextmanager
def open_checkpoints(parent: Path, key: str) -> Iterator[Checkpoints]:
    """Give the checkpoints of the training `key`, under a lock that ends with the process.

    UserError if another training with the same key is running.
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

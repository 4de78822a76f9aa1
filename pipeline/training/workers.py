"""Trains in workers on a Ray cluster, which share every batch; the first of them writes checkpoints and reports."""

import math
import socket
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed

from pipeline.core.errors import UserError
from pipeline.core.files import SPLITS
from pipeline.core.where import RayCluster
from pipeline.params.training import ModelParams, TrainParams
from pipeline.training.checkpoint import Checkpoints, ResumableTraining
from pipeline.training.curve import StepMetrics
from pipeline.training.prepare import prepare_training

KEY = "train.workers"
# Between two messages of the first worker: progress need not be smoother, and an update may take a millisecond.
REPORT_SECONDS = 0.2
PRECISIONS = {torch.float32: "fp32", torch.bfloat16: "bf16"}


@dataclass(frozen=True)
class Job:
    """What a worker needs: params, evaluation's window, and two folders that all machines see under the same path."""

    model: ModelParams
    params: TrainParams
    window: int
    folder: Path
    checkpoints: Path
    run_id: str | None


class Group:
    """The workers as a group of torch.distributed. Gloo and NCCL only move numbers here, they add none."""

    def __init__(self) -> None:
        self.rank, self.count = distributed.get_rank(), distributed.get_world_size()

    def swap(self, rows: Tensor, *, counts: Sequence[int]) -> Tensor:
        """See Peers."""
        found = rows.new_empty(sum(counts), rows.shape[1])
        sent = [len(rows) // self.count] * self.count
        distributed.all_to_all_single(found, rows, output_split_sizes=list(counts), input_split_sizes=sent)
        return found

    def join(self, own: Tensor) -> Tensor:
        """See Peers."""
        found = own.new_empty(self.count * len(own))
        distributed.all_gather_single(found, own)
        return found

    def collect(self, own: Any) -> list[Any]:
        """See Peers."""
        found = [None] * self.count
        distributed.all_gather_object(found, own)
        return found


def train_in_workers(
    training: ResumableTraining, model: ModelParams, params: TrainParams, *, folder: Path
) -> Generator[StepMetrics, None, None]:
    """Yield the metrics of a training in `train.workers` workers, at least those that are points of the curve.

    `training` is the same training in this process, with the checkpoint that the workers start from; afterwards it has
    their result. `folder` is the project's. UserError as from RayCluster, and if the workers do not see the folder.
    """
    trainer = training.trainer
    if trainer.device.type == "mps":
        raise UserError(f"train.device: found mps, allowed with {KEY} are cpu and cuda")
    cpus = params.threads or 1
    # All workers must compute alike, so the machine where the training starts chooses.
    chosen = {"threads": cpus, "device": trainer.device.type, "precision": PRECISIONS[trainer.dtype]}
    job = Job(
        model=model,
        params=params.model_copy(update=chosen),
        window=trainer.window,
        folder=folder.resolve(),
        checkpoints=training.checkpoints.folder.resolve(),
        run_id=training.first_run,
    )
    gpus = 1 if trainer.device.type == "cuda" else 0
    last = trainer.counters.step
    with closing(RayCluster(cpus=cpus, gpus=gpus, names=(KEY, "train.threads", "train.device"))) as cluster:
        for message in cluster.run_group(partial(work, job), workers=params.workers):
            if isinstance(message, str):
                raise UserError(message)
            # After a restart, the workers repeat what followed the last checkpoint.
            if message.step > last:
                last = message.step
                if message.is_point:
                    training.points.append(message)
                yield message
    training.resume()
    if training.trainer.counters.step != last:
        raise UserError(f"{KEY}: the workers' checkpoint is not in {job.checkpoints}; all must share this folder")


def work(job: Job, send: Callable[[StepMetrics | str], None]) -> None:
    """Train in one of the workers; the first sends metrics, or the message of a UserError."""
    group = Group()
    training: ResumableTraining | None = None
    problem = ""
    try:
        training = _prepare(job, group)
    except UserError as error:
        problem = str(error)
    # A worker without this problem would wait for the others.
    problems = group.collect(problem)
    # Each worker updates its own copy of the weights: on other processors the copies would slowly part.
    kinds = set(group.collect(_kind(job.params.device)))
    if len(kinds) > 1:
        problems.append(f"{KEY}: found {' and '.join(sorted(kinds))}, allowed are machines of one kind")
    steps = group.collect(training and training.resumed_from)
    is_first = group.rank == 0
    if found := next(filter(None, problems), ""):
        if is_first:
            send(found)
        return
    if training is None or len(set(steps)) > 1:
        raise RuntimeError(f"the workers found different checkpoints: {steps}")
    sent = -math.inf
    try:
        for metrics in training.run(checkpoint_seconds=job.params.checkpoint_seconds if is_first else math.inf):
            if is_first and (metrics.is_point or time.monotonic() - sent >= REPORT_SECONDS):
                send(metrics)
                sent = time.monotonic()
        if is_first:
            training.save()
    except UserError as error:
        # A loss that is not a number is found by all workers, a full disk by the first, which writes.
        if is_first:
            send(str(error))


def _prepare(job: Job, group: Group) -> ResumableTraining:
    for path in (job.folder / SPLITS, job.checkpoints):
        if not path.is_dir():
            raise UserError(f"{KEY}: {path} is not visible on {socket.gethostname()}; all machines must share it")
    prepared = prepare_training(job.model, job.params, window=job.window, folder=job.folder, peers=group)
    return ResumableTraining(prepared.trainer, Checkpoints(job.checkpoints), run_id=job.run_id)


def _kind(device: str) -> str:
    unit = torch.cuda.get_device_name() if device == "cuda" else torch.backends.cpu.get_cpu_capability()
    return f"PyTorch {torch.__version__} on {unit}"

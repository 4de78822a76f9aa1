"""Measures how fast a network trains on this machine, with random ids."""

import time

import numpy as np
import torch

from pipeline.dataset.arrays import cut_windows
from pipeline.dataset.splits import Split
from pipeline.model.network import CharNetwork
from pipeline.model.saved import NetworkConfig
from pipeline.params.training import ModelParams, TrainParams
from pipeline.training.loop import Trainer
from pipeline.training.setup import choose_device, choose_precision, keep_freed_memory, make_deterministic

# Before measuring: the first updates allocate memory and compile kernels, and an idle processor takes a second to reach
# its full speed.
WARM_UP, WARM_UP_SECONDS = 3, 1.5
FEWEST, MOST, REPETITION_SECONDS = 3, 6, 1.2
MOST_SECONDS = 8.0


def training_speeds(
    model: ModelParams,
    train: TrainParams,
    *,
    vocab_size: int,
    bucket: int,
    repetition_seconds: float = REPETITION_SECONDS,
    most_seconds: float = MOST_SECONDS,
) -> tuple[float, float]:
    """Return the training speed with these params, in characters a second: the slowest and the fastest repetition.

    There are FEWEST to MOST repetitions, each of at least one update and `repetition_seconds`; after the FEWEST none
    begins later than `most_seconds` from the start. `bucket` is the windows' length; evaluations are not included.
    """
    started = time.perf_counter()
    device = choose_device(train.device)
    make_deterministic(threads=train.threads)
    keep_freed_memory()
    ids = np.random.default_rng(0).integers(1, vocab_size, train.batch_size * bucket * 50 + 1)
    split = Split(ids.astype(np.min_scalar_type(vocab_size)), cut_windows(len(ids), (bucket,)))
    trainer = Trainer(
        CharNetwork(NetworkConfig.of(model, vocab_size=vocab_size)),
        train=split,
        evaluation=split,
        params=train.model_copy(update={"epochs": 1e6, "evals_per_epoch": 1e-6}),
        window=bucket,
        device=device,
        dtype=choose_precision(train.precision, device),
    )
    reports = trainer.run()
    warm_up_seconds = min(WARM_UP_SECONDS, repetition_seconds)
    warm = time.perf_counter() + warm_up_seconds
    done = 0
    while done < WARM_UP or time.perf_counter() < warm:
        now = next(reports)
        done += 1
    speeds: list[float] = []
    while len(speeds) < MOST and (len(speeds) < FEWEST or time.perf_counter() - started < most_seconds):
        begun, at = now, _now(device)
        while time.perf_counter() - at < repetition_seconds or now is begun:
            now = next(reports)
        speeds.append((now.chars - begun.chars) / (_now(device) - at))
    return min(speeds), max(speeds)


def _now(device: torch.device) -> float:
    """Return the time after all work on `device` has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()

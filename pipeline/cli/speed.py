"""How fast a network trains here, measured on made-up ids."""

import time

import numpy as np
import torch

from pipeline.dataset.samples import cut_windows
from pipeline.dataset.splits import Split
from pipeline.model.config import NetworkConfig
from pipeline.model.network import CharNetwork
from pipeline.params.model import ModelParams
from pipeline.params.train import TrainParams
from pipeline.training.device import choose_device, choose_precision, make_deterministic
from pipeline.training.loop import Trainer

WARM_UP = 3


def training_speed(
    model: ModelParams, train: TrainParams, *, vocab_size: int, bucket: int, seconds: float = 2.0
) -> float:
    """Return how many characters a second a training with these params goes through, measured for `seconds`.

    `bucket` is the length of its windows; evaluations are not part of it.
    """
    device = choose_device(train.device)
    make_deterministic(threads=train.threads)
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
    for _ in range(WARM_UP):
        begun = next(reports)
    started, now = time.perf_counter(), begun
    while time.perf_counter() - started < seconds:
        now = next(reports)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (now.chars - begun.chars) / (time.perf_counter() - started)

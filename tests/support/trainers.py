"""A small training for tests of the training loop."""

import torch

from pipeline.dataset.dictionary import Dictionary
from pipeline.dataset.splits import load_split
from pipeline.model.network import CharNetwork, initialise
from pipeline.model.saved import NetworkConfig
from pipeline.params.training import TrainParams
from pipeline.training.loop import Trainer
from pipeline.training.setup import make_deterministic


def trainer_of(folder, *, cell="lstm", dropout=0.0, threads=1, **params):
    """A training of a small network on the splits in `folder`."""
    dictionary = Dictionary.load(folder / "dictionary.json")
    config = NetworkConfig(
        cell=cell, num_layers=2, num_hidden=24, num_embed=8, dropout=dropout, vocab_size=len(dictionary)
    )
    given = {"epochs": 2.0, "batch_size": 8, "evals_per_epoch": 2.0, "shift_windows": False, **params}
    given["optimizer"] = {"lr": 0.02, "weight_decay": 0.0, "beta2": None, **params.get("optimizer", {})}
    given["schedule"] = {"warmup": 0.0, **params.get("schedule", {})}
    given["clip"] = {"at": 1.0, **params.get("clip", {})}
    settings = TrainParams.model_validate(given)
    make_deterministic(threads=threads)
    network = CharNetwork(config)
    initialise(network, magnitude=3.0, generator=torch.Generator().manual_seed(1))
    return Trainer(
        network,
        train=load_split(folder / "train"),
        evaluation=load_split(folder / "eval"),
        params=settings,
        window=20,
        device=torch.device("cpu"),
        dtype=torch.float32,
    )

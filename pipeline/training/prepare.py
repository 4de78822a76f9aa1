"""Prepares a training from params and the files of `split` and `source`, and builds the model that it ends with.

The stage `train` and the trials of a sweep share it, so that the same params give the same weights in both.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.core.files import DICTIONARY, SPLITS, START
from pipeline.core.seeds import derive_seed
from pipeline.dataset.arrays import count_ids
from pipeline.dataset.dictionary import Dictionary
from pipeline.dataset.splits import Split, load_split
from pipeline.model.network import CharNetwork, initialise, start_at_frequencies
from pipeline.model.saved import NetworkConfig, SavedModel
from pipeline.params.training import ModelParams, TrainParams
from pipeline.training.loop import Trainer
from pipeline.training.mixture import fit_ngram, held_out
from pipeline.training.setup import choose_device, choose_precision, make_deterministic
from pipeline.training.start_model import adapted_weights, load_start_model


@dataclass(frozen=True)
class Preparation:
    """A training that can begin: its trainer, the whole training text, and what the model's files need."""

    trainer: Trainer
    train: Split
    config: NetworkConfig
    dictionary: Dictionary
    params: ModelParams

    def model(self) -> SavedModel:
        """Return the model with the best weights so far, and its n-gram model; the network then has these weights."""
        weights, ngram = self.trainer.best or self.trainer.network.weights(), None
        if self.params.ngram.order:
            self.trainer.network.load_weights(weights)
            ngram = fit_ngram(
                self.trainer.network,
                self.train,
                self.params.ngram,
                dictionary=self.dictionary,
                window=self.trainer.window,
                device=self.trainer.device,
            )
        return SavedModel(config=self.config, weights=weights, dictionary=self.dictionary, ngram=ngram)


def prepare_training(model: ModelParams, params: TrainParams, *, window: int, folder: Path) -> Preparation:
    """Return the training of a network on the data in the project's `folder`; `window` is that of evaluation.

    Sets the number of threads of this process. UserError if this machine lacks the device or the precision, the text is
    too short, or the start model does not fit.
    """
    device = choose_device(params.device)
    dtype = choose_precision(params.precision, device)
    dictionary = Dictionary.load(folder / DICTIONARY)
    splits = {name: load_split(folder / SPLITS / name, vocab_size=len(dictionary)) for name in ("train", "eval")}
    make_deterministic(threads=params.threads)
    config = NetworkConfig.of(model, vocab_size=len(dictionary))
    network = CharNetwork(config)
    generator = torch.Generator().manual_seed(derive_seed(params.seed, "weights"))
    initialise(network, magnitude=model.init_magnitude, generator=generator)
    counts = count_ids(splits["train"].ids, len(dictionary))
    if model.init_output == "unigram":
        start_at_frequencies(network, counts, generator=generator)
    if params.start_from is not None:
        base = load_start_model(folder / START, model, address=params.start_from, root=folder)
        network.load_weights(adapted_weights(base, network.weights(), dictionary, counts))
    train = splits["train"]
    if model.ngram.order:
        train, _ = held_out(train, model.ngram, vocab_size=len(dictionary))
    trainer = Trainer(
        network,
        train=train,
        evaluation=splits["eval"],
        params=params,
        window=window,
        device=device,
        dtype=dtype,
    )
    return Preparation(trainer, splits["train"], config, dictionary, model)

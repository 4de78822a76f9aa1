"""Prepares a training from params and the files of `split` and `source`, and builds the model that it ends with.

That is the trained network with an n-gram model; the weights of both are fitted on text that neither was trained on.

The stage `train` and the trials of a sweep share it, so that the same params give the same weights in both.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pipeline.core.errors import UserError
from pipeline.core.files import DICTIONARY, SPLITS, START
from pipeline.core.reproducible import derive_seed
from pipeline.dataset.arrays import count_ids
from pipeline.dataset.dictionary import PADDING, Dictionary
from pipeline.dataset.splits import Split, hold_out, load_split
from pipeline.evaluation.perplexity import predictions, window_batches, window_rows
from pipeline.model.mixture import fit_weights
from pipeline.model.network import CharNetwork, initialise, start_at_frequencies
from pipeline.model.ngram import NgramModel
from pipeline.model.saved import NetworkConfig, SavedModel
from pipeline.params.training import ModelParams, NgramParams, TrainParams
from pipeline.training.loop import Trainer
from pipeline.training.parts import Peers
from pipeline.training.setup import choose_device, choose_precision, keep_freed_memory, make_deterministic
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
            # With fixed parts, threads change no byte: see Parts.
            parts = self.trainer.parts
            with parts.running() if parts.is_fixed else nullcontext():
                ngram = fit_ngram(
                    self.trainer.network,
                    self.train,
                    self.params.ngram,
                    dictionary=self.dictionary,
                    window=self.trainer.window,
                    device=self.trainer.device,
                )
        return SavedModel(config=self.config, weights=weights, dictionary=self.dictionary, ngram=ngram)


def prepare_training(
    model: ModelParams, params: TrainParams, *, window: int, folder: Path, peers: Peers | None = None
) -> Preparation:
    """Return the training of a network on the data in the project's `folder`; `window` is that of evaluation.

    Sets the number of threads of this process. `peers` are the other workers of this training. UserError if this
    machine lacks the device or the precision, the text is too short, or the start model does not fit.
    """
    device = choose_device(params.device)
    dtype = choose_precision(params.precision, device)
    dictionary = Dictionary.load(folder / DICTIONARY)
    splits = {name: load_split(folder / SPLITS / name, vocab_size=len(dictionary)) for name in ("train", "eval")}
    make_deterministic(threads=params.threads or (1 if peers else 0))
    keep_freed_memory()
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
        peers=peers,
    )
    return Preparation(trainer, splits["train"], config, dictionary, model)


# What is held out has at least this number of ids, if that is not more than this share of the text.
FEW_IDS, LARGEST_SHARE = 2000, 0.1
# Probabilities that are in memory at a time, for each of the two models; more is not held out.
MOST_VALUES = 1 << 24
# Fewer positions say nothing about the weights.
FEWEST_POSITIONS = 100
BATCH = 128


def held_out(train: Split, params: NgramParams, *, vocab_size: int) -> tuple[Split, Split]:
    """Return the part of `train` to train the network on, and the end, which the weights are fitted on.

    Raises UserError if the text is too short to fit weights.
    """
    size = max(params.held_out * len(train.ids), min(FEW_IDS, LARGEST_SHARE * len(train.ids)))
    share = min(size, MOST_VALUES / vocab_size) / max(len(train.ids), 1)
    rest, end = hold_out(train, share)
    if len(end.ids) <= FEWEST_POSITIONS:
        raise UserError(
            f"model.ngram: the training text of {len(train.ids):,} characters is too short to hold out "
            f"{FEWEST_POSITIONS} of them; use more text, or model.ngram.order: 0"
        )
    return rest, end


def fit_ngram(
    network: CharNetwork,
    train: Split,
    params: NgramParams,
    *,
    dictionary: Dictionary,
    window: int,
    device: torch.device,
) -> NgramModel:
    """Return the n-gram model of the whole text `train`, with the weights for mixing it with `network`.

    The network must have been trained on the first part of `held_out`. The weights are fitted on the second part, by
    the protocol of evaluation, with an n-gram model that does not know that part either.
    """
    rest, end = held_out(train, params, vocab_size=len(dictionary))
    logits, labels = [], []
    batches = window_batches(end, window=window, batch_size=BATCH)
    for batch, found in predictions(network, batches, device=device):
        counted = batch.labels != PADDING
        logits.append(found.float().cpu().transpose(0, 1).numpy()[counted])
        labels.append(batch.labels[counted])
    rows = np.concatenate(list(window_rows(end, window)))
    probs, groups = _ngram_of(rest, params, dictionary).distributions(end.ids, rows)
    weights = fit_weights(np.concatenate(logits), probs, groups, np.concatenate(labels), order=params.order)
    return _ngram_of(train, params, dictionary).with_weights(weights)


def _ngram_of(split: Split, params: NgramParams, dictionary: Dictionary) -> NgramModel:
    return NgramModel.fit(split.ids, vocab_size=len(dictionary), order=params.order, begin=dictionary.begin)

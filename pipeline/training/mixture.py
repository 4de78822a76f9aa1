"""Gives a trained network its n-gram model: fits the weights of both on text that neither was trained on."""

import numpy as np
import torch

from pipeline.core.errors import UserError
from pipeline.dataset.dictionary import PADDING, Dictionary
from pipeline.dataset.splits import Split, hold_out
from pipeline.evaluation.baseline import window_rows
from pipeline.evaluation.perplexity import predictions, window_batches
from pipeline.model.mixture import fit_weights
from pipeline.model.network import CharNetwork
from pipeline.model.ngram import NgramModel
from pipeline.params.training import NgramParams

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

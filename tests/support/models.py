"""Models with random weights."""

from dataclasses import replace

import numpy as np

from pipeline.dataset.dictionary import Dictionary
from pipeline.model.ngram import NgramModel
from pipeline.model.ngram_kernels import COUNT_GROUPS
from pipeline.model.saved import NetworkConfig, SavedModel

ORDER = 4


def random_model(
    cell: str = "lstm",
    *,
    characters: str = "abcdefgh \n",
    layers: int = 2,
    hidden: int = 12,
    embed: int = 6,
    unknown: bool = False,
    bounded: bool = False,
    seed: int = 0,
    scale: float = 0.5,
    ending: float = 0.0,
) -> SavedModel:
    """Return a model of a few characters with random weights: normal, with standard deviation `scale`.

    `ending` is added to the end symbol's logit, if the model is `bounded`.
    """
    dictionary = Dictionary.of(characters, unknown=unknown, bounded=bounded)
    config = NetworkConfig(
        cell=cell, num_layers=layers, num_hidden=hidden, num_embed=embed, dropout=0.0, vocab_size=len(dictionary)
    )
    random = np.random.default_rng(seed)
    weights = {name: (random.normal(size=shape) * scale).astype(np.float32) for name, shape in config.shapes().items()}
    if dictionary.end is not None:
        weights["output.bias"][dictionary.end] += ending
    return SavedModel(config=config, weights=weights, dictionary=dictionary)


def with_ngram(network):
    """Return `network` with an n-gram model of a text that repeats itself, and weights of all sizes."""
    random = np.random.default_rng(3)
    words = [random.integers(network.dictionary.first_id, len(network.dictionary), 5) for _ in range(8)]
    ids = np.concatenate([words[at] for at in random.integers(0, 8, 200)])
    ngram = NgramModel.fit(ids, vocab_size=len(network.dictionary), order=ORDER, begin=network.dictionary.begin)
    weights = random.uniform(0.2, 1, ((ORDER + 1) * COUNT_GROUPS, 2)).astype(np.float32)
    config = network.config.model_copy(update={"ngram_order": ORDER})
    return replace(network, config=config, ngram=ngram.with_weights(weights))

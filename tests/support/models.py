"""Models with random weights."""

import numpy as np

from pipeline.dataset.dictionary import Dictionary
from pipeline.model.saved import NetworkConfig, SavedModel


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

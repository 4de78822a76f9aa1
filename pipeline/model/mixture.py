"""Network and n-gram model as one model: how their probabilities are combined, and how that is saved.

    P(w | text) ~ P_network(w | text)^a * P_ngram(w | text)^b

a and b depend on what the n-gram model knows about the context: on the length of the longest context that the training
text has, and on how often (`group_of`). They are fitted on a part of the training text that neither of the two was
trained on. The product was 0.5 % better than a weighted sum with weights by the same groups (docs/evaluation.md).

    ngram.safetensors   text, where, children, counts, more_counts: the trie, see `NgramModel` and `save_ngram`
                        discounts, weights, sizes: its numbers
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from pipeline.core.errors import UserError
from pipeline.model.ngram import NgramModel, trie_of
from pipeline.model.ngram_kernels import COUNT_GROUPS, FLOOR

Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]

# Strength of the prior: how many nats a group's exponents must gain to move by sqrt(2) from those of all groups of its
# length, and these from the exponents of all contexts.
PRIOR = 8.0
NEWTON_STEPS = 12
# Bounds that only a text without any order reaches.
HIGHEST = 3.0
MORE = 255  # counts from here on are saved as `more_counts`


def fit_weights(
    network: Floats32, ngram: Floats, groups: npt.NDArray[np.int64], labels: npt.NDArray[np.int64], *, order: int
) -> Floats32:
    """Return the exponents (a, b) of each group, float32 [groups, 2], that give `labels` the highest probability.

    `network` are logits and `ngram` probabilities, [positions, vocab]; `groups` are the groups of the contexts and
    `labels` the ids that follow, int64 [positions]. The problem is convex and is solved by Newton's method: first for
    all positions, then for each length with that result as a prior, then for each group with its length's.
    """
    known = np.log(np.maximum(ngram, FLOOR)).astype(np.float32)
    weights = np.empty((order + 1, COUNT_GROUPS, 2), dtype=np.float32)
    everywhere = _newton(network, known, labels, np.array([1.0, 0.0]))
    for length in range(order + 1):
        rows = np.flatnonzero(groups // COUNT_GROUPS == length)
        at_length = _newton(network[rows], known[rows], labels[rows], everywhere)
        for group in range(COUNT_GROUPS):
            own = rows[groups[rows] % COUNT_GROUPS == group]
            weights[length, group] = _newton(network[own], known[own], labels[own], at_length)
    return weights.reshape(-1, 2)


def refit_weights(
    weights: Floats32,
    network: Floats32,
    ngram: Floats32,
    groups: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int64],
) -> Floats32:
    """Return `weights` fitted to further positions, with each group's own as its prior; the others as in `fit_weights`.

    `ngram` are logarithms here, of at least FLOOR.
    """
    result = weights.copy()
    for group in np.unique(groups):
        own = np.flatnonzero(groups == group)
        result[group] = _newton(network[own], ngram[own], labels[own], weights[group].astype(np.float64))
    return result


def _newton(network: Floats32, ngram: Floats32, labels: npt.NDArray[np.int64], prior: Floats) -> Floats:
    """Return the exponents for these positions; `prior` is where they start, and stay without evidence."""
    exponents = prior.copy()
    rows = np.arange(len(labels))
    right = np.stack([network[rows, labels], ngram[rows, labels]], axis=1).astype(np.float64)
    for _ in range(NEWTON_STEPS if len(labels) else 0):
        logits = exponents[0] * network.astype(np.float64) + exponents[1] * ngram
        probs = np.exp(logits - logits.max(axis=1, keepdims=True))
        probs /= probs.sum(axis=1, keepdims=True)
        # The gradient is the expected minus the actual logits, the Hessian their covariance.
        mean = np.stack([(probs * network).sum(axis=1), (probs * ngram).sum(axis=1)], axis=1)
        own, other = network - mean[:, :1], ngram - mean[:, 1:]
        both = (probs * own * other).sum()
        hessian = np.array([[(probs * own * own).sum(), both], [both, (probs * other * other).sum()]])
        gradient = (mean - right).sum(axis=0) + PRIOR * (exponents - prior)
        exponents = np.clip(exponents - np.linalg.solve(hessian + PRIOR * np.eye(2), gradient), 0.0, HIGHEST)
    return exponents


def save_ngram(model: NgramModel, path: Path) -> None:
    """Write the model, weights included.

    Saved are the text, for each node the position of its last id (-1 - that if there are several), and for nodes that
    occur several times the number of children and the count, each in the smallest type that holds it.
    """
    trie = model.trie
    several = trie.where < 0
    counts = trie.counts[several]
    tensors = {
        "text": _smallest(trie.text),
        "where": trie.where,
        "children": _smallest(np.diff(trie.first)[several]),
        "counts": np.minimum(counts, MORE).astype(np.uint8),
        "more_counts": counts[counts >= MORE],
        "discounts": trie.discounts,
        "weights": trie.weights,
        "sizes": np.array([model.order, model.vocab_size, model.complete, trie.begin], dtype=np.int64),
    }
    path.write_bytes(save(tensors))


def load_ngram(path: Path, *, vocab_size: int) -> NgramModel:
    """Return the model in `path`; UserError if it is missing or damaged, or has another vocabulary size."""
    try:
        tensors = load_file(path)
        order, known, complete, begin = tensors["sizes"].tolist()
        text, where = tensors["text"].astype(np.int32), tensors["where"].astype(np.int32)
        several = where < 0
        counts, children = np.ones(len(where), dtype=np.int32), np.zeros(len(where), dtype=np.int64)
        own = tensors["counts"].astype(np.int32)
        own[own == MORE] = tensors["more_counts"]
        counts[several], children[several] = own, tensors["children"]
        discounts, weights = tensors["discounts"], tensors["weights"]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; `dvc repro` makes a model") from None
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, IndexError) as error:
        raise UserError(f"{path}: damaged or cut off: {error}") from None
    if known != vocab_size:
        raise UserError(f"{path}: holds a model of {known} ids, allowed are the {vocab_size} of the dictionary")
    positions = np.where(several, -1 - where, where)
    sound = (
        0 <= order < len(discounts) == order + 2
        and discounts.shape == (order + 2, 4)
        and weights.shape == ((order + 1) * COUNT_GROUPS, 2)
        and np.isfinite(discounts).all()
        and np.isfinite(weights).all()
        and len(text) > 0
        and 0 <= positions.min() <= positions.max() < len(text)
        and text.max() < vocab_size
        and -1 <= begin < vocab_size
        and counts.min() >= 0
        and children.sum() == len(where) - 1
        # Each node's children come after it.
        and (np.cumsum(children)[:-1] + 1 > np.arange(1, len(where))).all()
    )
    if not sound:
        raise UserError(f"{path}: damaged: its numbers do not fit together")
    try:
        trie = trie_of(text, children, counts, where, discounts, vocab_size=vocab_size, begin=begin)
    except IndexError:  # more levels than discounts
        raise UserError(f"{path}: damaged: its grams are longer than its order") from None
    return NgramModel(order, vocab_size, bool(complete), trie).with_weights(weights)


def _smallest(array: npt.NDArray[np.integer]) -> npt.NDArray[np.unsignedinteger]:
    """Return `array`, no value negative, in the smallest type that holds its values."""
    return array.astype(np.min_scalar_type(int(array.max(initial=0))))

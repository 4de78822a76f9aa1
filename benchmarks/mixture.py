"""Network and n-gram model as one model: ways to combine them, what it costs when generating, and how much is copied.

    python -m benchmarks.mixture

The model is the pipeline's (`models/charlm`, which must have an n-gram model), the text `data/split`. The perplexities
are those of the eval text in windows of 100. For a fair comparison, the weights of every combination are fitted on
blocks of 2,000 characters and measured on the other half of the blocks, and the reverse; the n-gram model is that of
the training text. The last row is the model as it was saved, with weights fitted on a part of the training text.
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table

from pipeline.core.files import MODEL, SPLITS
from pipeline.dataset.arrays import load_array
from pipeline.dataset.dictionary import PADDING
from pipeline.dataset.splits import load_split
from pipeline.evaluation.perplexity import predictions, window_batches, window_rows
from pipeline.evaluation.samples import copied_shares
from pipeline.generation.text import Writer
from pipeline.model.mixture import fit_weights
from pipeline.model.network import CharNetwork
from pipeline.model.ngram_kernels import COUNT_GROUPS
from pipeline.model.saved import SavedModel
from pipeline.params.sampling import Sampling

WINDOW, BLOCK = 100, 2000
SAMPLES, LENGTH, ROUNDS = 20, 400, 5
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def main() -> None:
    """Print the tables."""
    saved = SavedModel.load(Path(MODEL))
    console = Console(width=100)
    table = Table(title="combinations")
    table.add_column("combination")
    table.add_column("perplexity", justify="right")
    for name, perplexity in combinations(saved):
        table.add_row(name, f"{perplexity:.3f}")
    console.print(table)
    table = Table(title="generating, one thread")
    for name in ("texts at once", "model, characters/s", "network alone", "ratio"):
        table.add_column(name, justify="right")
    for count in (1, 32):
        both, alone = speeds(saved, count)
        table.add_row(str(count), f"{both:,.0f}", f"{alone:,.0f}", f"{both / alone:.2f}")
    console.print(table)
    table = Table(title=f"share of copied substrings, {SAMPLES} samples of {LENGTH} characters, temperature 0.8")
    for name in ("ngram_weight", "copied"):
        table.add_column(name, justify="right")
    for weight in (1.0, 0.5, 0.0):
        table.add_row(f"{weight:g}", f"{copied(saved, weight):.2%}")
    console.print(table)


def combinations(saved: SavedModel) -> Iterator[tuple[str, float]]:
    """Yield the name and the perplexity of each combination."""
    network, ngram, groups, labels = both_predictions(saved)
    rows = np.arange(len(labels))
    ours, theirs = network[rows, labels].astype(float), np.log(ngram[rows, labels])
    yield "network", float(np.exp(-ours.mean()))
    yield "n-gram model", float(np.exp(-theirs.mean()))
    folds = rows // BLOCK % 2
    nowhere = np.zeros_like(groups)
    for name, own in (("one weight", nowhere), ("a weight for each group of contexts", groups)):
        losses = np.concatenate([summed(ours, theirs, own, folds == fold) for fold in (0, 1)])
        yield f"weighted sum, {name}", float(np.exp(losses.mean()))
    order = int(groups.max()) // COUNT_GROUPS
    for name, own in (("one pair of exponents", nowhere), ("a pair for each group", groups)):
        losses = []
        for fold in (0, 1):
            fit, rest = folds == fold, folds != fold
            weights = fit_weights(network[fit], ngram[fit], own[fit], labels[fit], order=order)
            losses.append(product_losses(network[rest], ngram[rest], weights[own[rest]], labels[rest]))
        yield f"product, {name}", float(np.exp(np.concatenate(losses).mean()))
    if saved.ngram is not None:
        losses = product_losses(network, ngram, saved.ngram.trie.weights[groups], labels)
        yield "the model as saved", float(np.exp(losses.mean()))


def both_predictions(saved: SavedModel) -> tuple[npt.NDArray[np.float32], Floats, Ints, Ints]:
    """Return the network's log-probabilities, the n-gram model's probabilities, the contexts' groups and the labels."""
    if saved.ngram is None:
        raise SystemExit(f"{MODEL}: has no n-gram model; model.ngram.order is 0")
    split = load_split(SPLITS / "eval")
    network = CharNetwork(saved.config)
    network.load_weights(saved.weights)
    found, labels = [], []
    for batch, logits in predictions(network, window_batches(split, window=WINDOW, batch_size=128)):
        counted = batch.labels != PADDING
        found.append(torch.log_softmax(logits, dim=2).transpose(0, 1).numpy()[counted])
        labels.append(batch.labels[counted])
    probs, groups = saved.ngram.distributions(split.ids, np.concatenate(list(window_rows(split, WINDOW))))
    return np.concatenate(found), probs, groups, np.concatenate(labels)


def summed(ours: Floats, theirs: Floats, groups: Ints, fit: npt.NDArray[np.bool_]) -> Floats:
    """Return the losses (nats) of the weighted sum where `fit` is False; the weights are fitted elsewhere by EM."""
    p, q = np.exp(ours), np.exp(theirs)
    weights = np.full(int(groups.max()) + 1, 0.5)
    for _ in range(50):
        share = weights[groups[fit]] * p[fit]
        share /= share + (1 - weights[groups[fit]]) * q[fit]
        sums = np.bincount(groups[fit], share, len(weights)) + 1  # a group without evidence keeps about a half
        weights = sums / (np.bincount(groups[fit], minlength=len(weights)) + 2)
    own = weights[groups[~fit]]
    return -np.log(own * p[~fit] + (1 - own) * q[~fit])


def product_losses(
    network: npt.NDArray[np.float32], ngram: Floats, weights: npt.NDArray[np.float32], labels: Ints
) -> Floats:
    """Return the losses (nats) of the product, with the exponents of each position."""
    logits = weights[:, :1] * network + weights[:, 1:] * np.log(np.maximum(ngram, 1e-30))
    logits -= logits.max(axis=1, keepdims=True)
    return np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels]


def speeds(saved: SavedModel, count: int) -> tuple[float, float]:
    """Return the characters per second of the model and of its network alone, `count` texts at once, in turn."""
    writers = [Writer(model, threads=1) for model in (saved, replace(saved, ngram=None))]
    for writer in writers:
        writer.warm_up()
    length = 3000 if count == 1 else 300
    best = [float("inf"), float("inf")]
    for seed in range(ROUNDS):
        for number, writer in enumerate(writers):
            began = time.perf_counter()
            writer.generate([""] * count, Sampling(max_new_chars=length, seed=seed))
            best[number] = min(best[number], time.perf_counter() - began)
    return count * length / best[0], count * length / best[1]


def copied(saved: SavedModel, weight: float) -> float:
    """Return the share of the samples' substrings that occur in the training text."""
    options = [
        Sampling(max_new_chars=LENGTH, temperature=0.8, ngram_weight=weight, seed=seed) for seed in range(SAMPLES)
    ]
    texts = [one.completion for one in Writer(saved).generate([""] * SAMPLES, options)]
    shares = copied_shares(texts, load_array(SPLITS / "train/ids.npy"), saved.dictionary)
    return float(np.mean([share for share in shares if share is not None]))


if __name__ == "__main__":
    main()

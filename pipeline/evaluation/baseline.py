"""The baseline that a perplexity is shown with: an n-gram model of the same training text on the same eval text."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from pipeline.dataset.arrays import release_pages
from pipeline.dataset.splits import Samples, Spans, Split, Table, chunks_of_samples, cut_documents, cut_windows
from pipeline.evaluation.perplexity import MAX_NLL, Total
from pipeline.model.ngram import NgramModel

# Characters of the whole text that are read at once, and windows: only memory depends on it.
PIECE, WINDOWS = 1 << 16, 1 << 12


def baseline_figures(model: NgramModel, split: Split, *, window: int) -> dict[str, Any]:
    """Return the model's perplexities of the split by the network's protocol, and the model's name."""
    return {
        "baseline_perplexity": total(model, split, window_rows(split, window)).perplexity,
        "baseline_perplexity_stateful": total(model, split, whole_rows(split, model.order)).perplexity,
        "baseline": name_of(model),
    }


def name_of(model: NgramModel) -> str:
    """Return what the model is, and how much of the training text it was built from if that was too long."""
    used = "" if model.complete else f", last {len(model.trie.text) / 1e6:,.1f} million characters"
    return f"Kneser-Ney order {model.order}{used}"


def total(model: NgramModel, split: Split, parts: Iterator[Spans]) -> Total:
    """Return the sums over all rows (start, first, stop); a row's context begins at its start."""
    result = Total()
    for rows in parts:
        begin, stop = int(rows[:, 0].min()), int(rows[:, 2].max())
        ids = split.ids[begin:stop]
        nll = np.minimum(-model.log_probs(ids, rows - begin), MAX_NLL)
        release_pages(ids)
        result.nll += math.fsum(nll)
        result.chars += len(nll)
    return result


def window_rows(split: Split, window: int) -> Iterator[Spans]:
    """Yield the rows of `window_batches`: each window's context begins with its own first character."""
    for samples in chunks_of_samples(split.windows(window), WINDOWS):
        start, length = samples.T
        yield np.stack([start, start + 1, start + length + 1], axis=1)


def whole_rows(split: Split, order: int) -> Iterator[Spans]:
    """Yield the rows of `whole_batches`: the context is all that the model can use, within the stream or document."""
    pieces: Samples
    if split.documents is None:
        begins, together = np.zeros(1, np.int64), 1
        pieces = cut_windows(len(split.ids), (PIECE,))[PIECE]
    else:
        begins, together = np.asarray(split.documents), WINDOWS
        pieces = Table(cut_documents(begins, split.ends, (PIECE,))[PIECE])
    for samples in chunks_of_samples(pieces, together):
        start, length = samples.T
        own = begins[np.searchsorted(begins, start, side="right") - 1]
        yield np.stack([np.maximum(own, start + 1 - order), start + 1, start + length + 1], axis=1)

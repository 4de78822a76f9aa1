"""Measures perplexity by a fixed protocol: windows from zero state, padding masked, sums in float64.

perplexity              exp(total negative log-likelihood / total characters)
perplexity_batch_mean   the tutorial's: exp of each batch's mean loss, then the unweighted mean over batches
bits_per_char           log2(perplexity)
baseline_perplexity     that of an n-gram model of the same training text, on the same eval text
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.core.reproducible import ordered_map
from pipeline.dataset.arrays import Samples, Spans, Table, chunks_of_samples, cut_documents, cut_windows, release_pages
from pipeline.dataset.dictionary import PADDING
from pipeline.dataset.splits import Batch, Split, gather, ordered_batches
from pipeline.model.network import CharNetwork, State
from pipeline.model.ngram import NgramModel
from pipeline.model.ngram_kernels import mix_inputs

# The tutorial floors probabilities at 1e-15 before the logarithm.
MAX_NLL = -math.log(1e-15)
# Where the state is carried: the numbers of positions and of documents that are read at once. Only memory depends on
# them, not the result.
CHUNK_LENGTH, MAX_DOCUMENTS = 1024, 32


@dataclass(frozen=True)
class Losses:
    """The model's losses (nats), predictions and labels for one batch; all arrays are [batch, time].

    `counted` is False for padding.
    """

    nll: npt.NDArray[np.float64]
    predicted: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    counted: npt.NDArray[np.bool_]


@dataclass
class Total:
    """Sums over batches, and the figures computed from them; these are NaN before the first character."""

    nll: float = 0.0
    chars: int = 0
    correct: int = 0
    batch_perplexities: list[float] = field(default_factory=list)

    def add(self, losses: Losses) -> None:
        """Add a batch."""
        nll = float(losses.nll[losses.counted].sum())
        chars = int(losses.counted.sum())
        self.nll += nll
        self.chars += chars
        self.correct += int((losses.predicted == losses.labels)[losses.counted].sum())
        if chars:
            self.batch_perplexities.append(math.exp(nll / chars))

    @property
    def perplexity(self) -> float:
        """Exp of the mean negative log-likelihood per character."""
        return math.exp(self.nll / self.chars) if self.chars else math.nan

    @property
    def bits_per_char(self) -> float:
        """The mean negative log-likelihood per character in bits."""
        return self.nll / self.chars / math.log(2) if self.chars else math.nan

    @property
    def accuracy(self) -> float:
        """The share of characters that the model considered most likely."""
        return self.correct / self.chars if self.chars else math.nan

    @property
    def perplexity_batch_mean(self) -> float:
        """The unweighted mean of the batches' perplexities."""
        return float(np.mean(self.batch_perplexities)) if self.batch_perplexities else math.nan


def window_batches(split: Split, *, window: int, batch_size: int) -> Iterator[Batch]:
    """Yield a split's whole text in windows of `window`, in order; the last one (of each document) is padded."""
    return ordered_batches(split.ids, split.windows(window), window, batch_size)


def whole_batches(split: Split) -> Iterator[Batch]:
    """Yield a split's whole text in batches that continue each other, so that the state can be carried.

    The rows of a batch are the one stream, or documents of similar length.
    """
    # Documents are sorted by length, so that the rows of a batch end at about the same time.
    starts = np.zeros(1, np.int64) if split.documents is None else np.asarray(split.documents)
    ends = np.array([len(split.ids) - 1]) if split.documents is None else split.ends
    order = np.argsort(ends - starts, kind="stable")
    for at in range(0, len(order), MAX_DOCUMENTS):
        own = order[at : at + MAX_DOCUMENTS]
        longest = int((ends[own] - starts[own]).max())
        for done in range(0, longest, CHUNK_LENGTH):
            begins = starts[own] + done
            lengths = np.clip(ends[own] - begins, 0, CHUNK_LENGTH)
            rows = np.stack([begins, lengths], axis=1)
            yield gather(split.ids, rows, int(lengths.max()), continues=done > 0)


def measure(
    network: CharNetwork,
    batches: Iterable[Batch],
    *,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
    ngram: NgramModel | None = None,
) -> Iterator[Losses]:
    """Yield the losses of `batches`, without dropout: the network's, or those of network and `ngram` together.

    Matrix products are computed in `dtype`, losses in float32. Published figures use float32; evaluations during a
    training use its own precision. A batch starts from zero state unless it continues the previous one. The network's
    mode (training or evaluation) is restored.
    """
    readers: list[npt.NDArray[np.int64]] = []
    for batch, own in predictions(network, batches, device=device, dtype=dtype):
        if ngram is not None and not batch.continues:
            readers = [ngram.trie.start() for _ in batch.inputs]
        logits = own if ngram is None else _mixed(own, batch, ngram, readers)
        yield _losses(logits, torch.from_numpy(batch.labels.T.copy()).to(logits.device))


def measure_apart(
    network: CharNetwork,
    batches: Iterable[Batch],
    *,
    threads: int,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
    ngram: NgramModel | None = None,
) -> Iterator[Losses]:
    """Yield what `measure` yields for batches that do not continue each other, computing `threads` of them at once.

    Let PyTorch use few threads within an operation, as set before: threads that share a network's small products wait
    for each other at every time step, and the last bits of the result depend on their number.
    """

    def one(batch: Batch) -> Losses:
        return next(measure(network, [batch], device=device, dtype=dtype, ngram=ngram))

    was_training = network.training
    network.eval()  # `measure` would change the mode, and change it back, while others compute
    try:
        # A GPU is chosen for each thread, and the caller has chosen its own.
        yield from map(one, batches) if threads == 1 else ordered_map(one, batches, threads=threads)
    finally:
        network.train(was_training)


def predictions(
    network: CharNetwork,
    batches: Iterable[Batch],
    *,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Iterator[tuple[Batch, Tensor]]:
    """Yield each of `batches` with the network's logits, [time, batch, vocab]; the arguments are as in `measure`."""
    state: State | None = None
    for batch in batches:
        was_training = network.training
        network.eval()
        try:
            kind = "cpu" if device is None else device.type
            with torch.inference_mode(), torch.autocast(kind, dtype, enabled=dtype != torch.float32):
                inputs = torch.from_numpy(batch.inputs.T.copy()).to(device)
                logits, state = network(inputs, state if batch.continues else None)
        finally:
            network.train(was_training)
        yield batch, logits


def total(losses: Iterable[Losses]) -> Total:
    """Return the sums over all of `losses`."""
    result = Total()
    for one in losses:
        result.add(one)
    return result


def _mixed(logits: Tensor, batch: Batch, ngram: NgramModel, readers: list[npt.NDArray[np.int64]]) -> Tensor:
    """Return the logits of network and n-gram model together, [time, batch, vocab]; `readers` are advanced."""
    rows = logits.float().cpu().transpose(0, 1).contiguous().numpy()
    for own, ids, states in zip(rows, batch.inputs, readers, strict=True):
        mix_inputs(ngram.trie, ids, states, own)
    return torch.from_numpy(rows).transpose(0, 1)


def _losses(logits: Tensor, labels: Tensor) -> Losses:
    nll = functional.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), reduction="none").view(labels.shape)
    on_host = labels.T.cpu().numpy()
    return Losses(
        nll=np.minimum(nll.T.cpu().numpy().astype(np.float64), MAX_NLL),
        predicted=logits.argmax(dim=-1).T.cpu().numpy(),
        labels=on_host,
        counted=on_host != PADDING,
    )


# Characters of the whole text that the baseline reads at once, and windows: only memory depends on it.
PIECE, WINDOWS = 1 << 16, 1 << 12


def baseline_figures(model: NgramModel, split: Split, *, window: int) -> dict[str, Any]:
    """Return the perplexities of the split by the same protocol, and the name of `model`.

    It is the baseline that a perplexity is shown with: an n-gram model of the same training text.
    """
    return {
        "baseline_perplexity": baseline_total(model, split, window_rows(split, window)).perplexity,
        "baseline_perplexity_stateful": baseline_total(model, split, whole_rows(split, model.order)).perplexity,
        "baseline": baseline_name(model),
    }


def baseline_name(model: NgramModel) -> str:
    """Return what the model is, and how much of the training text it was built from if that was too long."""
    used = "" if model.complete else f", last {len(model.trie.text) / 1e6:,.1f} million characters"
    return f"Kneser-Ney order {model.order}{used}"


def baseline_total(model: NgramModel, split: Split, parts: Iterator[Spans]) -> Total:
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

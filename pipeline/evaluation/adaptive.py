"""Dynamic evaluation: the model learns from the text that it is measured on, each character after it was scored.

Krause et al. 2017, "Dynamic Evaluation of Neural Sequence Models" (arXiv 1709.07432): the text is read from start to
end in segments, with the state carried. After each segment the weights w take one step on the model's loss there:

    w += -LEARNING_RATE * g / (r + EPSILON * mean(r)) + min(1, DECAY * r / mean(r)) * (w0 - w)

g is the gradient, r the root of its mean square, and w0 the trained weights, to which the second term leads back. The
paper computes r on the training text; here it is computed on the segments so far, so that a model alone is enough.

The n-gram model is rebuilt now and then from its training text and what has been scored. The exponents of both models
are refitted to the scored text each time that it has doubled.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.dataset.splits import Split
from pipeline.evaluation.perplexity import MAX_NLL, Total
from pipeline.model.mixture import refit_weights
from pipeline.model.network import CharNetwork, State
from pipeline.model.ngram import NgramModel
from pipeline.model.ngram_kernels import FLOOR, mix_inputs, read

Floats32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# The same for all texts; docs/evaluation.md has what else was tried.
SEGMENT = 50
LEARNING_RATE, EPSILON, DECAY = 3e-3, 0.3, 0.01
# Segments over which the rate rises: the mean squares of a few gradients say little.
WARMUP = 50
TINY = 1e-20
# How often the n-gram model is rebuilt in a text, and how many characters all of this may read: about a minute.
REBUILDS, REBUILT_CHARS = 20, 1 << 25
# The exponents are fitted to the last positions, whose logits have at most this number of values: bounds the memory.
MOST_VALUES = 1 << 23


@dataclass(frozen=True)
class Scored:
    """Losses in nats, float64 [segment], and whether the likeliest character was right, bool [segment]."""

    nll: npt.NDArray[np.float64]
    correct: npt.NDArray[np.bool_]


def adaptive_total(network: CharNetwork, split: Split, *, ngram: NgramModel | None = None) -> Total:
    """Return the sums over the whole text of `split`; the arguments are as in `adapt`."""
    result = Total()
    for scored in adapt(network, split, ngram=ngram):
        result.nll += math.fsum(scored.nll)
        result.chars += len(scored.nll)
        result.correct += int(scored.correct.sum())
    return result


def adapt(network: CharNetwork, split: Split, *, ngram: NgramModel | None = None) -> Iterator[Scored]:
    """Yield the losses of the whole text of `split`, segment by segment; each document starts from zero state.

    The network, on the CPU, learns without dropout; its weights and mode are restored at the end. The sums depend on
    torch's number of threads.
    """
    was_training = network.training
    network.eval()
    learner, reader = _Learner(network), None if ngram is None else _Reader(ngram, split)
    state: State | None = None
    try:
        for begin, start, stop in segments(split):
            ids = split.ids[start : stop + 1].astype(np.int64)
            labels = torch.from_numpy(ids[1:])
            logits, state = network(torch.from_numpy(ids[:-1, None]), None if start == begin else state)
            logits, state = logits[:, 0], _detached(state)
            own = logits.detach().clone()
            mixed = own if reader is None else torch.from_numpy(reader.mix(own.numpy(), ids[:-1], begin, start))
            nll = functional.cross_entropy(mixed, labels, reduction="none").numpy().astype(np.float64)
            yield Scored(np.minimum(nll, MAX_NLL), (mixed.argmax(dim=1) == labels).numpy())
            # The segment is scored; only now is it learned.
            # This has the gradient that the mixture's loss has in the logits; r
            # makes up for the exponent that is left out.
            learner.step(functional.cross_entropy(mixed + (logits - logits.detach()), labels))
    finally:
        learner.restore()
        network.train(was_training)


def segments(split: Split) -> Iterator[tuple[int, int, int]]:
    """Yield (begin, start, stop) for each segment: ids[start + 1 : stop + 1] are predicted, the text began at begin."""
    begins, ends = [0], [len(split.ids) - 1]
    if split.documents is not None:
        begins, ends = np.asarray(split.documents).tolist(), split.ends.tolist()
    for begin, end in zip(begins, ends, strict=True):
        for start in range(begin, end, SEGMENT):
            yield begin, start, min(start + SEGMENT, end)


class _Learner:
    """Updates a network's weights as the module's first lines say."""

    def __init__(self, network: CharNetwork) -> None:
        self.weights = list(network.parameters())
        self.trained = [weight.detach().clone() for weight in self.weights]
        self.squares = [torch.zeros_like(weight) for weight in self.trained]
        self.steps = 0

    def step(self, loss: Tensor) -> None:
        gradients = torch.autograd.grad(loss, self.weights)
        self.steps += 1
        rate = LEARNING_RATE * min(1, self.steps / WARMUP)
        with torch.no_grad():
            for square, gradient in zip(self.squares, gradients, strict=True):
                square.addcmul_(gradient, gradient)
            roots = [(square / self.steps).sqrt_() for square in self.squares]
            mean = sum(float(root.sum()) for root in roots) / sum(root.numel() for root in roots)
            mean = max(mean, TINY)  # a network that is always certain and right has no gradients
            for weight, trained, gradient, root in zip(self.weights, self.trained, gradients, roots, strict=True):
                weight.addcdiv_(gradient, root + EPSILON * mean, value=-rate)
                weight.lerp_(trained, (DECAY / mean * root).clamp_(max=1))

    def restore(self) -> None:
        with torch.no_grad():
            for weight, trained in zip(self.weights, self.trained, strict=True):
                weight.copy_(trained)


class _Reader:
    """Reads a split with an n-gram model, which it rebuilds on the way."""

    def __init__(self, ngram: NgramModel, split: Split) -> None:
        self.ngram, self.ids = ngram, split.ids
        self.train, self.trained = ngram.trie.text, ngram.trie.weights
        rebuilds = min(REBUILDS, REBUILT_CHARS // (len(self.train) + len(self.ids)))
        self.every = len(self.ids) / (rebuilds + 1)
        self.next = self.every
        self.states = ngram.trie.start()
        self.rebuilt = 0
        self.rows: list[tuple[int, int, int]] = []  # what the present model has mixed, as in NgramModel.log_probs
        self.logits: list[Floats32] = []
        self.seen: list[tuple[Floats32, Floats32, Ints, Ints]] = []  # what is fitted, as in `refit_weights`

    def mix(self, logits: Floats32, inputs: Ints, begin: int, start: int) -> Floats32:
        """Return `logits` after they were mixed in place; `inputs` are the ids from `start` on."""
        if start >= self.next:
            self._rebuild(begin, start)
        elif start == begin:
            self.states = self.ngram.trie.start()
        self.rows.append((max(begin, start + 1 - self.ngram.order), start + 1, start + 1 + len(inputs)))
        self.logits.append(logits.copy())
        mix_inputs(self.ngram.trie, inputs, self.states, logits)
        return logits

    def _rebuild(self, begin: int, start: int) -> None:
        """Add all ids before `start` to the model's text, and read again what the document has before it."""
        trie, weights = self.ngram.trie, self._refitted()
        text = np.concatenate([self.train, self.ids[:start].astype(np.int32)])
        self.ngram = NgramModel.fit(
            text,
            vocab_size=self.ngram.vocab_size,
            order=self.ngram.order,
            begin=None if trie.begin < 0 else trie.begin,
        ).with_weights(weights)
        self.states = self.ngram.trie.start()
        read(self.ngram.trie, self.ids[begin:start].astype(np.int64), self.states)
        self.next += self.every

    def _refitted(self) -> Floats32:
        """Return the exponents for the next model: new ones after 1, 2, 4, ... blocks of text."""
        probs, groups = self.ngram.distributions(self.ids, np.array(self.rows))
        known = np.log(np.maximum(probs, FLOOR)).astype(np.float32)
        labels = np.concatenate([self.ids[first:stop] for _, first, stop in self.rows]).astype(np.int64)
        self.seen.append((np.concatenate(self.logits), known, groups, labels))
        self.rows, self.logits = [], []
        while sum(block[0].size for block in self.seen[1:]) > MOST_VALUES:
            del self.seen[0]
        self.rebuilt += 1
        if self.rebuilt & (self.rebuilt - 1):
            return self.ngram.trie.weights
        network, ngram, all_groups, all_labels = (np.concatenate(parts) for parts in zip(*self.seen, strict=True))
        return refit_weights(self.trained, network, ngram, all_groups, all_labels)


def _detached(state: State) -> State:
    return [(layer[0].detach(), layer[1].detach()) if isinstance(layer, tuple) else layer.detach() for layer in state]

"""Computes the gradients of a batch in parts, each by a thread of its own, and several workers' parts together.

A recurrent network multiplies a small matrix at every time step. If all threads shared each product, they would wait
for each other at every step; threads with windows of their own wait once per update. `python -m benchmarks.training`
shows what that is worth.

The sum of floating-point numbers depends on their order. So workers do not add what others have added already: each
gets one slice of the gradients of every part, adds these in the order of the parts, and sends the sum to the others.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice, pairwise, zip_longest
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.core.reproducible import derive_seed
from pipeline.dataset.dictionary import PADDING
from pipeline.dataset.splits import Batch
from pipeline.evaluation.perplexity import Total, measure_apart, total
from pipeline.model.network import CharNetwork
from pipeline.params.training import TrainParams

# A part with fewer windows would spend its time on reading the weights.
FEWEST_WINDOWS = 4
# What a part results in: the total negative log-likelihood and the gradients of all weights.
Result = tuple[Tensor, tuple[Tensor, ...]]


class Peers(Protocol):
    """The connection of one of `count` workers, number `rank` (from 0), to the others; all call the same methods."""

    rank: int
    count: int

    def swap(self, rows: Tensor, *, counts: Sequence[int]) -> Tensor:
        """Send block number w of `rows`, which has `count` blocks of the same size, to each worker w.

        Returns the blocks for this worker in the order of the workers, of which w sends `counts[w]` rows.
        """
        ...

    def join(self, own: Tensor) -> Tensor:
        """Return the tensors [n] of all workers as one, in the order of the workers."""
        ...

    def collect(self, own: Any) -> list[Any]:
        """Return the objects of all workers, in the order of the workers."""
        ...


class Parts:
    """Cuts batches into parts by their windows, and runs the parts at the same time.

    On a CPU there are as many parts as PyTorch has threads when this is created, as long as each has FEWEST_WINDOWS; a
    GPU gets whole batches. The gradients are added in the order of the parts, and each part has its own random numbers
    for dropout, so the same number of threads gives the same bytes.

    If `train.parts` or `train.workers` fixes the number of parts, a part is computed by one thread, and its random
    numbers depend on the update and the part alone. Then threads and `peers`, with which the parts are shared, change
    no byte.
    """

    def __init__(
        self,
        network: CharNetwork,
        params: TrainParams,
        *,
        device: torch.device,
        dtype: torch.dtype,
        peers: Peers | None = None,
    ) -> None:
        self.network = network
        self.weights = list(network.parameters())
        self.loss = params.loss
        self.seed = params.seed
        self.device = device
        self.dtype = dtype
        self.peers = peers
        self.is_fixed = params.fixed_parts > 0
        on_cpu = device.type == "cpu"
        following = max(1, min(torch.get_num_threads(), params.batch_size // FEWEST_WINDOWS)) if on_cpu else 1
        self.count = params.fixed_parts or following
        own = -(-self.count // peers.count) if peers else self.count
        self.threads = min(torch.get_num_threads(), own) if on_cpu else 1
        self.generators = [
            torch.Generator(device).manual_seed(derive_seed(params.seed, "dropout", part)) for part in range(self.count)
        ]
        self._map: Callable[..., Iterable[Result]] = map

    @contextmanager
    def running(self) -> Iterator[None]:
        """Start the parts' threads; they share the threads that PyTorch uses within an operation."""
        threads = torch.get_num_threads()
        if self.count == 1 and not self.is_fixed:
            yield
            return
        with ThreadPoolExecutor(self.threads) as pool:
            try:
                # New threads begin with this number. It holds for the caller as well: the threads of its last operation
                # would wait busily for the next one, on the cores that the parts need.
                torch.set_num_threads(1 if self.is_fixed else threads // self.count)
                self._map = pool.map if self.threads > 1 else map
                yield
            finally:
                self._map = map
                torch.set_num_threads(threads)

    def gradients(self, batch: Batch, *, update: int = 0) -> float:
        """Set the gradients of all weights; returns the batch's total negative log-likelihood (nats).

        `update` is the number of updates so far.
        """
        # "mean" divides by the characters; the tutorial's "window_sum" by the windows, so its gradients grow with the
        # length of the window.
        share = batch.num_positions if self.loss == "mean" else len(batch.inputs)

        def one(inputs: Tensor, labels: Tensor, generator: torch.Generator) -> Result:
            with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
                logits, _ = self.network(inputs, generator=generator)
            nll = functional.cross_entropy(
                logits.flatten(0, 1).float(), labels.flatten(), ignore_index=PADDING, reduction="sum"
            )
            return nll.detach(), torch.autograd.grad(nll / share, self.weights)

        self.network.train()
        inputs, labels = self._cut(batch.inputs), self._cut(batch.labels)
        # The last batch of an epoch may have fewer windows than there are parts.
        generators = self.generators[: len(inputs)]
        if self.is_fixed:
            for part, generator in enumerate(generators):
                generator.manual_seed(derive_seed(self.seed, "dropout", part, update))
            rank, workers = (self.peers.rank, self.peers.count) if self.peers else (0, 1)
            ends = [len(inputs) * worker // workers for worker in range(workers + 1)]
            own = slice(ends[rank], ends[rank + 1])
            results = self._map(one, inputs[own], labels[own], generators[own])
            nll, sums = self._add(list(results), [end - start for start, end in pairwise(ends)])
        else:
            (nll, sums), *others = self._map(one, inputs, labels, generators)
            for more, gradients in others:
                nll += more
                for first, other in zip(sums, gradients, strict=True):
                    first.add_(other)
        for weight, gradient in zip(self.weights, sums, strict=True):
            weight.grad = gradient
        return float(nll)

    def measure(self, batches: Iterable[Batch]) -> Total:
        """Return the sums over `batches`, of which as many are measured at once as there are parts."""
        if self.peers:
            batches = islice(batches, self.peers.rank, None, self.peers.count)
        losses = measure_apart(self.network, batches, threads=self.threads, device=self.device, dtype=self.dtype)
        if not self.peers:
            return total(losses)
        merged = Total()
        # In the order of the batches, which the workers took in turns.
        for turn in zip_longest(*self.peers.collect([total([one]) for one in losses])):
            for one in filter(None, turn):
                merged.nll += one.nll
                merged.chars += one.chars
                merged.correct += one.correct
                merged.batch_perplexities += one.batch_perplexities
        return merged

    def random_state(self) -> dict[str, Tensor]:
        """Return the states of the random number generators, by names for a checkpoint."""
        return {f"random.{part}": generator.get_state() for part, generator in enumerate(self.generators)}

    def restore_random_state(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `random_state` returned."""
        for part, generator in enumerate(self.generators):
            generator.set_state(tensors[f"random.{part}"])

    def _cut(self, ids: npt.NDArray[np.int64]) -> tuple[Tensor, ...]:
        """Return the parts of int64 [windows, time] with time first, which is the fastest layout for the network."""
        parts = torch.from_numpy(ids).to(self.device).chunk(self.count)
        return tuple(part.T.contiguous() for part in parts)

    def _add(self, own: list[Result], counts: list[int]) -> Result:
        """Return the sum of the results of all workers' parts, in their order; worker w has `counts[w]` of them."""
        workers, sizes = len(counts), [*(weight.numel() for weight in self.weights), 1]
        width = -(-sum(sizes) // workers)
        rows = torch.zeros(len(own), workers * width, device=self.device)
        for row, (nll, gradients) in zip(rows, own, strict=True):
            torch.cat([*(gradient.flatten() for gradient in gradients), nll.reshape(1)], out=row[: sum(sizes)])
        if self.peers:
            blocks = rows.view(len(own), workers, width).transpose(0, 1).reshape(len(own) * workers, width)
            rows = self.peers.swap(blocks, counts=counts)
        summed = rows[0]
        for row in rows[1:]:
            summed += row
        if self.peers:
            summed = self.peers.join(summed)
        *sums, nll = torch.split(summed[: sum(sizes)], sizes)
        return nll[0], tuple(flat.view_as(weight) for flat, weight in zip(sums, self.weights, strict=True))

"""Computes the gradients of a batch in parts, each by a thread of its own.

A recurrent network multiplies a small matrix at every time step. If all threads shared each product, they would wait
for each other at every step; threads with windows of their own wait once per update. `python -m benchmarks.training`
shows what that is worth.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

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


class Parts:
    """Cuts batches into parts by their windows, and runs the parts at the same time.

    On a CPU there are as many parts as PyTorch has threads when this is created, as long as each has FEWEST_WINDOWS; a
    GPU gets whole batches. The gradients are added in the order of the parts, and each part has its own random numbers
    for dropout, so the same number of threads gives the same bytes.
    """

    def __init__(self, network: CharNetwork, params: TrainParams, *, device: torch.device, dtype: torch.dtype) -> None:
        self.network = network
        self.weights = list(network.parameters())
        self.loss = params.loss
        self.device = device
        self.dtype = dtype
        threads = torch.get_num_threads()
        self.count = max(1, min(threads, params.batch_size // FEWEST_WINDOWS)) if device.type == "cpu" else 1
        self.generators = [
            torch.Generator(device).manual_seed(derive_seed(params.seed, "dropout", part)) for part in range(self.count)
        ]
        self._map: Callable[..., Iterable[tuple[Tensor, tuple[Tensor, ...]]]] = map

    @contextmanager
    def running(self) -> Iterator[None]:
        """Start the parts' threads; they share the threads that PyTorch uses within an operation."""
        threads = torch.get_num_threads()
        if self.count == 1:
            yield
            return
        with ThreadPoolExecutor(self.count) as pool:
            try:
                # New threads begin with this number. It holds for the caller as well: the threads of its last operation
                # would wait busily for the next one, on the cores that the parts need.
                torch.set_num_threads(threads // self.count)
                self._map = pool.map
                yield
            finally:
                self._map = map
                torch.set_num_threads(threads)

    def gradients(self, batch: Batch) -> float:
        """Set the gradients of all weights; returns the batch's total negative log-likelihood (nats)."""
        # "mean" divides by the characters; the tutorial's "window_sum" by the windows, so its gradients grow with the
        # length of the window.
        share = batch.num_positions if self.loss == "mean" else len(batch.inputs)

        def one(inputs: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, tuple[Tensor, ...]]:
            with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
                logits, _ = self.network(inputs, generator=generator)
            nll = functional.cross_entropy(
                logits.flatten(0, 1).float(), labels.flatten(), ignore_index=PADDING, reduction="sum"
            )
            return nll.detach(), torch.autograd.grad(nll / share, self.weights)

        self.network.train()
        inputs, labels = self._cut(batch.inputs), self._cut(batch.labels)
        # The last batch of an epoch may have fewer windows than there are parts.
        (nll, sums), *others = self._map(one, inputs, labels, self.generators[: len(inputs)])
        for more, gradients in others:
            nll += more
            for own, other in zip(sums, gradients, strict=True):
                own.add_(other)
        for weight, gradient in zip(self.weights, sums, strict=True):
            weight.grad = gradient
        return float(nll)

    def measure(self, batches: Iterable[Batch]) -> Total:
        """Return the sums over `batches`, of which as many are measured at once as there are parts."""
        return total(measure_apart(self.network, batches, threads=self.count, device=self.device, dtype=self.dtype))

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

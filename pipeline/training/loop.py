"""The training loop: yields metrics after every update, and remembers the best weights.

It works on arrays and a network, and knows nothing of files, MLflow or progress bars: callers iterate over the metrics
and use them as they like.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.core.errors import UserError
from pipeline.dataset.splits import Batch, Split, batches_per_epoch, epoch_batches
from pipeline.evaluation.perplexity import window_batches
from pipeline.model.network import CharNetwork
from pipeline.model.saved import Weights
from pipeline.params.training import ClipParams, TrainParams
from pipeline.training.curve import StepMetrics
from pipeline.training.parts import Parts, Peers
from pipeline.training.setup import make_optimizer, rate_at

EVAL_BATCH = 128
# The curve has a point at least every 2 % of a training, so that a short one is more than a dot.
POINTS = 50
# A loss per character far above that of any network that can still learn: a uniform guess among all Unicode characters
# costs 14 nats.
EXPLODED_NATS = 100.0


@dataclass(frozen=True)
class Snapshot:
    """The state of a training after an update: tensors by name, and plain JSON data."""

    step: int
    tensors: dict[str, Tensor]
    data: dict[str, Any]


@dataclass
class Counters:
    """The running totals of a training: plain numbers, which are saved in checkpoints.

    `nll` (nats) and `positions` are those since the last evaluation, `recent_nll` and `recent_positions` those since
    the last point of the curve; `chars` counts all positions.
    """

    step: int = 0
    seconds: float = 0.0
    chars: int = 0
    nll: float = 0.0
    positions: int = 0
    recent_nll: float = 0.0
    recent_positions: int = 0
    best_perplexity: float = math.inf
    evaluations_without_gain: int = 0

    def add(self, nll: float, positions: int) -> None:
        """Add an update."""
        self.step += 1
        self.nll += nll
        self.positions += positions
        self.recent_nll += nll
        self.recent_positions += positions
        self.chars += positions


class Trainer:
    """One training; `best` are the weights with the lowest eval perplexity so far, None before the first evaluation.

    `train` and `evaluation` are the two texts as ids, `window` is the evaluation's window in characters, `dtype` the
    precision of the matrix products (autocast). With `peers`, workers with the same arguments share every batch and end
    with the same weights.
    """

    def __init__(
        self,
        network: CharNetwork,
        *,
        train: Split,
        evaluation: Split,
        params: TrainParams,
        window: int,
        device: torch.device,
        dtype: torch.dtype,
        peers: Peers | None = None,
    ) -> None:
        self.network = network.to(device)
        self.train = train
        self.evaluation = evaluation
        self.params = params
        self.window = window
        self.device = device
        self.dtype = dtype
        self.parts = Parts(self.network, params, device=device, dtype=dtype, peers=peers)
        self.optimizer = make_optimizer(network, params.optimizer)
        self.per_epoch = batches_per_epoch(train, params.batch_size)
        self.steps = max(1, round(params.epochs * self.per_epoch))
        self.best: Weights | None = None
        self.counters = Counters()

    def run(self) -> Iterator[StepMetrics]:
        """Train to the end, or until `train.patience` is exhausted; yields metrics after every update.

        Raises UserError if the loss explodes or is not a number.
        """
        with self.parts.running():
            yield from self._run()

    def _run(self) -> Iterator[StepMetrics]:
        # A resumed training continues to count the seconds of the one before.
        started = time.perf_counter() - self.counters.seconds
        every = evaluation_steps(self.steps, per_epoch=self.per_epoch, per_epoch_evals=self.params.evals_per_epoch)
        points = curve_steps(self.steps) | every
        counters = self.counters
        if self._is_stuck():  # a checkpoint may be of the last update
            return
        for batch in self._batches(counters.step):
            rate = self.params.optimizer.lr * rate_at(
                counters.step, steps=self.steps, steps_per_epoch=self.per_epoch, schedule=self.params.schedule
            )
            nll, norm = self._update(batch, rate)
            counters.add(nll, batch.num_positions)
            # Written so that NaN fails too.
            if not nll / batch.num_positions < EXPLODED_NATS:
                raise UserError(
                    f"train: the loss is {nll / batch.num_positions:g} per character at update {counters.step}; "
                    f"lower train.optimizer.lr ({self.params.optimizer.lr:g}) or clip.at ({self.params.clip.at:g})"
                )
            metrics = StepMetrics(
                step=counters.step,
                steps=self.steps,
                epoch=counters.step / self.per_epoch,
                seconds=time.perf_counter() - started,
                chars=counters.chars,
                train_perplexity=math.exp(counters.nll / counters.positions),
                learning_rate=rate,
                gradient_norm=norm,
            )
            # train_perplexity starts anew after each evaluation, recent_perplexity after each point of the curve.
            if counters.step in points:
                recent = math.exp(counters.recent_nll / counters.recent_positions)
                metrics = replace(metrics, recent_perplexity=recent)
                counters.recent_nll, counters.recent_positions = 0.0, 0
            if counters.step in every:
                perplexity, is_best = self._evaluate()
                seconds = time.perf_counter() - started
                metrics = replace(metrics, eval_perplexity=perplexity, is_best=is_best, seconds=seconds)
                counters.nll, counters.positions = 0.0, 0
            counters.seconds = metrics.seconds
            yield metrics
            if self._is_stuck():
                return

    def snapshot(self) -> Snapshot:
        """Return everything that `restore` needs. Call it only while `run` is suspended at a yield."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"best.{name}": torch.from_numpy(value) for name, value in (self.best or {}).items()}
        tensors |= self.parts.random_state()
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
        return Snapshot(step=self.counters.step, tensors=tensors, data=asdict(self.counters))

    def restore(self, snapshot: Snapshot) -> None:
        """Continue from `snapshot`, made by a trainer that was created with the same arguments."""
        # The tensors' names begin with what they belong to, see `snapshot`.
        kinds: dict[str, dict[str, Tensor]] = {"network": {}, "best": {}, "optimizer": {}, "random": {}}
        for name, tensor in snapshot.tensors.items():
            kind, _, rest = name.partition(".")
            kinds[kind][rest] = tensor
        self.network.load_state_dict(kinds["network"])
        self.best = {name: tensor.numpy() for name, tensor in kinds["best"].items()} or None
        states: dict[int, dict[str, Tensor]] = {}
        for name, tensor in kinds["optimizer"].items():
            index, _, rest = name.partition(".")
            states.setdefault(int(index), {})[rest] = tensor
        # The options come from params, which are the same: only the state is restored.
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": states})
        self.parts.restore_random_state(snapshot.tensors)
        self.counters = Counters(**snapshot.data)

    def _batches(self, done: int) -> Iterator[Batch]:
        """Yield the batches of the updates after the first `done`."""
        left = self.steps - done
        for epoch in range(done // self.per_epoch, math.ceil(self.steps / self.per_epoch)):
            # A resumed training skips the batches of its epoch that it has seen.
            skip = max(0, done - epoch * self.per_epoch)
            batches = epoch_batches(
                self.train,
                self.params.batch_size,
                seed=self.params.seed,
                epoch=epoch,
                skip=skip,
                shift=self.params.shift_windows,
            )
            for batch in batches:
                if not left:
                    return
                left -= 1
                yield batch

    def _update(self, batch: Batch, rate: float) -> tuple[float, float]:
        """Do one update; returns the batch's total negative log-likelihood (nats) and the gradient's norm."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        nll = self.parts.gradients(batch, update=self.counters.step)
        norm = clip_gradients(list(self.network.parameters()), self.params.clip)
        self.optimizer.step()
        return nll, norm

    def _evaluate(self) -> tuple[float, bool]:
        batches = window_batches(self.evaluation, window=self.window, batch_size=EVAL_BATCH)
        perplexity = self.parts.measure(batches).perplexity
        is_best = perplexity < self.counters.best_perplexity
        self.counters.evaluations_without_gain = 0 if is_best else self.counters.evaluations_without_gain + 1
        if is_best:
            self.best, self.counters.best_perplexity = self.network.weights(), perplexity
        return perplexity, is_best

    def _is_stuck(self) -> bool:
        return 0 < self.params.patience <= self.counters.evaluations_without_gain


def evaluation_steps(steps: int, *, per_epoch: int, per_epoch_evals: float) -> set[int]:
    """Return the updates (from 1) that an evaluation follows: evenly spaced, and always the last one."""
    every = max(1.0, per_epoch / per_epoch_evals)
    return {round(n * every) for n in range(1, math.floor(steps / every) + 1)} | {steps}


def curve_steps(steps: int) -> set[int]:
    """Return the updates (from 1) at which the curve has a point whether or not the eval text is measured."""
    return {math.ceil(n * steps / POINTS) for n in range(1, POINTS + 1)}


def clip_gradients(weights: list[nn.Parameter], clip: ClipParams) -> float:
    """Clip the gradients in place, according to `train.clip`; returns their norm before clipping."""
    norm = nn.utils.get_total_norm([weight.grad for weight in weights if weight.grad is not None])
    if clip.by == "value":
        nn.utils.clip_grad_value_(weights, clip.at)
    elif clip.by == "norm":
        nn.utils.clip_grads_with_norm_(weights, clip.at, norm)
    return float(norm)

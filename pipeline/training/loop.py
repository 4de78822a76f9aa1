"""The training loop: reads top to bottom, yields a report after every update, keeps the best weights.

Knows arrays and a network; knows no files, no MLflow and no progress bar: whoever iterates does with the reports what
it likes.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.core.errors import UserError
from pipeline.core.seeds import derive_seed
from pipeline.dataset.batches import Batch, batches_per_epoch, epoch_batches
from pipeline.dataset.dictionary import PADDING
from pipeline.dataset.splits import Split
from pipeline.evaluation.perplexity import measure, total, window_batches
from pipeline.model.network import CharNetwork
from pipeline.model.saved import Weights
from pipeline.params.training import ClipParams, TrainParams
from pipeline.training.optimizers import make_optimizer, rate_at

EVAL_BATCH = 128
# The curve has a point at least every 2 % of a training, so that a short one is more than a dot.
POINTS = 50
# Far over any loss of a network that can still learn: a uniform guess among all of Unicode costs 14 nats.
EXPLODED_NATS = 100.0


@dataclass(frozen=True)
class Report:
    """How it stands after update `step` of `steps`.

    `seconds` count from the start of training, evaluation included; `chars` are the positions trained on so far.
    `train_perplexity` is over the updates since the last evaluation, with dropout. `recent_perplexity` is the same over
    the updates since the last point of the curve, and None if this report is not a point: evaluations are points, and
    one update in every 2 % of the training. `eval_perplexity` is None between evaluations; `gradient_norm` is that
    before clipping. `is_best` is whether this evaluation is the lowest so far.
    """

    step: int
    steps: int
    epoch: float
    seconds: float
    chars: int
    train_perplexity: float
    learning_rate: float
    gradient_norm: float
    recent_perplexity: float | None = None
    eval_perplexity: float | None = None
    is_best: bool = False

    @property
    def is_point(self) -> bool:
        """Whether the report is a point of the curve."""
        return self.recent_perplexity is not None


@dataclass(frozen=True)
class Snapshot:
    """The state of a training after an update: tensors by name, and plain JSON data."""

    step: int
    tensors: dict[str, Tensor]
    data: dict[str, Any]


@dataclass
class Sums:
    """What is counted as a training goes: plain numbers, so that a checkpoint keeps them.

    `nll` and `positions` are those since the last evaluation, `recent_nll` and `recent_positions` those since the last
    point of the curve, `chars` all.
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
        """Count an update."""
        self.step += 1
        self.nll += nll
        self.positions += positions
        self.recent_nll += nll
        self.recent_positions += positions
        self.chars += positions


class Trainer:
    """One training, from its start or from a snapshot; `best` are the weights of the lowest eval perplexity."""

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
    ) -> None:
        self.network = network.to(device)
        self.train = train
        self.evaluation = evaluation
        self.params = params
        self.window = window
        self.device = device
        self.dtype = dtype
        self.optimizer = make_optimizer(network, params.optimizer)
        self.per_epoch = batches_per_epoch(train, params.batch_size)
        self.steps = max(1, round(params.epochs * self.per_epoch))
        self.best: Weights | None = None
        self.sums = Sums()

    def run(self) -> Iterator[Report]:
        """Train to the end, yielding a report after every update; UserError if the loss explodes or is no number."""
        if self.sums.step == 0:
            torch.manual_seed(derive_seed(self.params.seed, "dropout"))
        started = time.perf_counter() - self.sums.seconds
        every = evaluation_steps(self.steps, per_epoch=self.per_epoch, per_epoch_evals=self.params.evals_per_epoch)
        points = curve_steps(self.steps) | every
        sums = self.sums
        for batch in self._batches(sums.step):
            rate = self.params.optimizer.lr * rate_at(
                sums.step, steps=self.steps, steps_per_epoch=self.per_epoch, schedule=self.params.schedule
            )
            nll, norm = self._update(batch, rate)
            sums.add(nll, batch.num_positions)
            if not nll / batch.num_positions < EXPLODED_NATS:
                raise UserError(
                    f"train: the loss is {nll / batch.num_positions:g} per character at update {sums.step}; "
                    f"lower train.optimizer.lr ({self.params.optimizer.lr:g}) or clip.at ({self.params.clip.at:g})"
                )
            report = Report(
                step=sums.step,
                steps=self.steps,
                epoch=sums.step / self.per_epoch,
                seconds=time.perf_counter() - started,
                chars=sums.chars,
                train_perplexity=math.exp(sums.nll / sums.positions),
                learning_rate=rate,
                gradient_norm=norm,
            )
            if sums.step in points:
                report = replace(report, recent_perplexity=math.exp(sums.recent_nll / sums.recent_positions))
                sums.recent_nll, sums.recent_positions = 0.0, 0
            if sums.step in every:
                perplexity, is_best = self._evaluate()
                seconds = time.perf_counter() - started
                report = replace(report, eval_perplexity=perplexity, is_best=is_best, seconds=seconds)
                sums.nll, sums.positions = 0.0, 0
            sums.seconds = report.seconds
            yield report
            if self._is_stuck():
                return

    def snapshot(self) -> Snapshot:
        """Return all that `restore` needs; call it between two reports."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"best.{name}": torch.from_numpy(value) for name, value in (self.best or {}).items()}
        tensors |= random_state(self.device)
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
        return Snapshot(step=self.sums.step, tensors=tensors, data=asdict(self.sums))

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from `snapshot`, of a trainer that was made with the same arguments."""
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
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": states})
        restore_random_state(snapshot.tensors, self.device)
        self.sums = Sums(**snapshot.data)

    def _batches(self, done: int) -> Iterator[Batch]:
        """Yield the batches of the updates after the first `done`."""
        left = self.steps - done
        for epoch in range(done // self.per_epoch, math.ceil(self.steps / self.per_epoch)):
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
        """Make one update; returns the batch's summed negative log-likelihood and the gradient's norm."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.network.train()
        inputs = torch.from_numpy(batch.inputs.T.copy()).to(self.device)
        labels = torch.from_numpy(batch.labels.T.copy()).to(self.device)
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            logits, _ = self.network(inputs)
        nll = functional.cross_entropy(
            logits.flatten(0, 1).float(), labels.flatten(), ignore_index=PADDING, reduction="sum"
        )
        share = batch.num_positions if self.params.loss == "mean" else len(batch.inputs)
        (nll / share).backward()  # type: ignore[no-untyped-call]
        norm = clip_gradients(list(self.network.parameters()), self.params.clip)
        self.optimizer.step()
        return float(nll.detach()), norm

    def _evaluate(self) -> tuple[float, bool]:
        batches = window_batches(self.evaluation, window=self.window, batch_size=EVAL_BATCH)
        perplexity = total(measure(self.network, batches, device=self.device, dtype=self.dtype)).perplexity
        is_best = perplexity < self.sums.best_perplexity
        self.sums.evaluations_without_gain = 0 if is_best else self.sums.evaluations_without_gain + 1
        if is_best:
            self.best, self.sums.best_perplexity = self.network.weights(), perplexity
        return perplexity, is_best

    def _is_stuck(self) -> bool:
        return 0 < self.params.patience <= self.sums.evaluations_without_gain


def evaluation_steps(steps: int, *, per_epoch: int, per_epoch_evals: float) -> set[int]:
    """Return the updates (from 1) after which the eval text is measured: evenly spaced, and the last one always."""
    every = max(1.0, per_epoch / per_epoch_evals)
    return {round(n * every) for n in range(1, math.floor(steps / every) + 1)} | {steps}


def curve_steps(steps: int) -> set[int]:
    """Return the updates (from 1) at which the curve has a point whether or not the eval text is measured."""
    return {math.ceil(n * steps / POINTS) for n in range(1, POINTS + 1)}


def clip_gradients(weights: list[nn.Parameter], clip: ClipParams) -> float:
    """Clip the gradients in place, as group `train.clip` says; returns their norm before."""
    norm = nn.utils.get_total_norm([weight.grad for weight in weights if weight.grad is not None])
    if clip.by == "value":
        nn.utils.clip_grad_value_(weights, clip.at)
    elif clip.by == "norm":
        nn.utils.clip_grads_with_norm_(weights, clip.at, norm)
    return float(norm)


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Return the states of the random numbers that dropout draws from."""
    states = {"random.cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["random.cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_random_state(tensors: dict[str, Tensor], device: torch.device) -> None:
    """Set the random states that `random_state` returned."""
    torch.set_rng_state(tensors["random.cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(tensors["random.cuda"], device)

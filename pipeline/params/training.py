"""Group `model`: the network."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.params.base import Group


class ModelParams(Group):
    """Embedding, recurrent layers, dropout, linear.

    `init_magnitude` is Xavier's: weights are normal with standard deviation
    sqrt(init_magnitude / ((fan_in + fan_out) / 2)); biases are 0. `init_output: unigram` starts the output layer at the
    characters' frequencies instead: its biases are their logarithms, its weights near 0, so that no update is spent on
    learning them.
    """

    cell: Literal["lstm", "gru", "rnn"] = "lstm"
    num_layers: Annotated[int, Field(ge=1, le=16)] = 1
    num_hidden: Annotated[int, Field(ge=1, le=8192)] = 256
    num_embed: Annotated[int, Field(ge=1, le=8192)] = 64
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    init_magnitude: Annotated[float, Field(gt=0)] = 3.0
    init_output: Literal["xavier", "unigram"] = "unigram"


Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]

# Which options each optimiser reads, beside lr and weight_decay: any other is refused, never ignored.
OPTIONS_OF = {
    "adamw": {"beta1", "beta2", "eps"},
    "adam": {"beta1", "beta2", "eps"},
    "sgd": {"momentum"},
    "rmsprop": {"rho", "momentum", "eps"},
    "adadelta": {"rho", "eps"},
}


class OptimizerParams(Group):
    """The optimiser; an option left at null has PyTorch's default. `rho` is RMSprop's `alpha` too."""

    name: Literal["adamw", "adam", "sgd", "rmsprop", "adadelta"] = "adamw"
    lr: Positive = 0.002
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    beta1: Share | None = None
    beta2: Share | None = None
    rho: Share | None = None
    momentum: Share | None = None
    eps: Positive | None = None

    @model_validator(mode="after")
    def _no_idle_option(self) -> "OptimizerParams":
        for option in ("beta1", "beta2", "rho", "momentum", "eps"):
            if getattr(self, option) is not None and option not in OPTIONS_OF[self.name]:
                raise ValueError(
                    f"{option} is not read by {self.name}; allowed are "
                    f"{', '.join(sorted(OPTIONS_OF[self.name]))}, or null"
                )
        return self


class ScheduleParams(Group):
    """How the learning rate moves.

    Every schedule rises linearly over the first `warmup` share of the updates. `cosine` then falls to `final` times
    the rate at the last update, `linear` does so in a straight line; `step` multiplies by `gamma` after every `every`
    epochs; `constant` stays.
    """

    name: Literal["constant", "linear", "cosine", "step"] = "linear"
    warmup: Share = 0.0
    final: Annotated[float, Field(ge=0, le=1)] = 0.0
    every: Positive = 1.0
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.5


class ClipParams(Group):
    """Gradient clipping: every element to ±`at` (value), or the whole gradient's length to `at` (norm)."""

    by: Literal["none", "value", "norm"] = "norm"
    at: Positive = 1.0


class TrainParams(Group):
    """The training loop.

    `epochs` may be a fraction. `loss: mean` divides by the positions; `window_sum` by the batch size only, so that
    the gradient is the sum over a window's positions (the tutorial's; an optimiser with a large eps feels it).
    `threads: 0` is all cores; the number can change sums, and with them bytes.
    `shift_windows` lets the windows of each epoch begin at another offset, so that what a window cuts apart differs.
    `evals_per_epoch` is how often the eval text is measured; the best weights are the ones kept, and after `patience`
    evaluations in a row without a better one the training ends (0: never). A checkpoint is written every
    `checkpoint_seconds`; a training that was killed goes on from it.
    """

    epochs: Positive = 5.0
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 32
    shift_windows: bool = False
    loss: Literal["mean", "window_sum"] = "mean"
    optimizer: OptimizerParams = OptimizerParams()
    schedule: ScheduleParams = ScheduleParams()
    clip: ClipParams = ClipParams()
    evals_per_epoch: Annotated[float, Field(gt=0, le=100)] = 1.0
    patience: Annotated[int, Field(ge=0)] = 0
    checkpoint_seconds: Positive = 30.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    seed: Annotated[int, Field(ge=0)] = 7


class EvaluateParams(Group):
    """Windows of `window` characters from zero state; `batch_size` windows at once (it enters the batch mean only).

    `baseline_order` is the number of characters that the n-gram baseline looks back at; 0: no baseline.
    """

    window: Annotated[int, Field(ge=2, le=65_535)] = 100
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 32
    baseline_order: Annotated[int, Field(ge=0, le=16)] = 9

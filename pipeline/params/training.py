"""Groups `model`, `train` and `evaluate`: the network, its training and how it is measured."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.params import Group


class NgramParams(Group):
    """An n-gram model of the training text, whose probabilities are multiplied with the network's."""

    order: int = Field(
        default=14, ge=0, le=30, description="characters of context of the n-gram model in the model; 0: none"
    )
    held_out: float = Field(
        default=0.02, gt=0, le=0.2, description="share of the training text that only its weights are fitted on"
    )


class ModelParams(Group):
    """The network: embedding, recurrent layers, dropout, linear output layer.

    Weights are drawn from a normal distribution (Xavier); biases start at 0. With `init_output: unigram` the biases of
    the output layer start at the logarithms of the characters' frequencies and its weights near 0, so that no updates
    are spent on learning the frequencies.
    """

    cell: Literal["lstm", "gru", "rnn"] = Field(default="lstm", description="the recurrent cell: lstm, gru or rnn")
    num_layers: int = Field(default=1, ge=1, le=16, description="recurrent layers")
    num_hidden: int = Field(default=384, ge=1, le=8192, description="units in each recurrent layer")
    num_embed: int = Field(default=64, ge=1, le=8192, description="length of a character's embedding")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="share of activations set to 0 while training")
    init_magnitude: float = Field(
        default=3.0, gt=0, description="Xavier: standard deviation is sqrt(magnitude / ((fan_in + fan_out) / 2))"
    )
    init_output: Literal["xavier", "unigram"] = Field(
        default="unigram", description="the output layer starts at the characters' frequencies; or xavier: random"
    )
    ngram: NgramParams = Field(default=NgramParams(), description="an n-gram model that helps the network")


Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Address = Annotated[str, Field(min_length=1)]

# The options that each optimizer reads besides lr and weight_decay. Any other is refused, never ignored.
OPTIONS_OF = {
    "adamw": {"beta1", "beta2", "eps"},
    "adam": {"beta1", "beta2", "eps"},
    "sgd": {"momentum"},
    "rmsprop": {"rho", "momentum", "eps"},
    "adadelta": {"rho", "eps"},
}


class OptimizerParams(Group):
    """The optimizer. An option that is null has PyTorch's default; one that the optimizer does not read is refused."""

    name: Literal["adamw", "adam", "sgd", "rmsprop", "adadelta"] = Field(
        default="adamw", description="adamw, adam, sgd, rmsprop or adadelta"
    )
    lr: Positive = Field(default=0.01, description="learning rate, before the schedule")
    weight_decay: float = Field(default=0.04, ge=0, description="weight decay; decoupled in adamw, L2 in the others")
    beta1: Share | None = Field(
        default=None, description="adam, adamw: decay of the gradient's mean; null: PyTorch's default, as below"
    )
    beta2: Share | None = Field(default=0.98, description="adam, adamw: decay of the squared gradient's mean")
    rho: Share | None = Field(
        default=None, description="adadelta, rmsprop (alpha there): decay of the squared gradient's mean"
    )
    momentum: Share | None = Field(default=None, description="sgd, rmsprop: momentum")
    eps: Positive | None = Field(default=None, description="all but sgd: added to the denominator")

    @model_validator(mode="after")
    def _refuse_unused_options(self) -> "OptimizerParams":
        for option in ("beta1", "beta2", "rho", "momentum", "eps"):
            if getattr(self, option) is not None and option not in OPTIONS_OF[self.name]:
                raise ValueError(
                    f"{option} is not read by {self.name}; allowed are "
                    f"{', '.join(sorted(OPTIONS_OF[self.name]))}, or null"
                )
        return self


class ScheduleParams(Group):
    """The learning rate over time. Every schedule first rises linearly from 0, over the `warmup` share of updates."""

    name: Literal["constant", "linear", "cosine", "step"] = Field(
        default="linear", description="after warmup: linear or cosine fall to final; step; or constant"
    )
    warmup: Share = Field(default=0.02, description="share of the updates over which the rate rises from 0 to lr")
    final: float = Field(default=0.0, ge=0, le=1, description="linear, cosine: share of lr at the last update")
    every: Positive = Field(default=1.0, description="step: epochs between two reductions")
    gamma: float = Field(default=0.5, gt=0, le=1, description="step: factor of a reduction")


class ClipParams(Group):
    """Gradient clipping."""

    by: Literal["none", "value", "norm"] = Field(
        default="norm", description="norm: limits the length of the whole gradient; value: each element; or none"
    )
    at: Positive = Field(default=0.5, description="the limit")


# Parts of a batch if `train.workers` is more than 1 and `train.parts` is 0.
WORKERS_PARTS = 4


class TrainParams(Group):
    """The training loop.

    The best weights on the eval text are the ones saved. Training that was killed resumes from its last checkpoint. The
    number of threads can change the order of sums, and with it the bytes of the weights. With a fixed number of
    `parts`, neither threads nor workers do.

    With `start_from` training begins at the weights of another model of the same shape (docs/tune.md). Its characters
    are matched by what they are; a character that it lacks starts at random weights.
    """

    start_from: Address | None = Field(
        default=None,
        description="a model to start from: a folder, models:/NAME@ALIAS or models:/NAME/VERSION; null: random weights",
    )
    epochs: Positive = Field(default=3.5, description="passes over the training text; a fraction is allowed")
    batch_size: int = Field(default=32, ge=1, le=65_536, description="samples in each update")
    shift_windows: bool = Field(default=True, description="windows of each epoch begin at another offset")
    loss: Literal["mean", "window_sum"] = Field(
        default="mean",
        description="mean over all positions; or window_sum: divided by the batch size only, as in the tutorial",
    )
    optimizer: OptimizerParams = Field(default=OptimizerParams(), description="how the weights are updated")
    schedule: ScheduleParams = Field(default=ScheduleParams(), description="the learning rate over time")
    clip: ClipParams = Field(default=ClipParams(), description="limits the gradients")
    evals_per_epoch: float = Field(
        default=1.0, gt=0, le=100, description="how often the eval text is measured; the best weights are saved"
    )
    patience: int = Field(
        default=0, ge=0, description="evaluations in a row without a better one that end training; 0: never end early"
    )
    checkpoint_seconds: Positive = Field(
        default=30.0, description="seconds between checkpoints: the most work that a crash costs"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto", description="auto: bf16 where the hardware supports it; or fp32, bf16"
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        default="auto", description="auto: the fastest that there is; or cpu, cuda, mps"
    )
    threads: int = Field(
        default=0, ge=0, le=1024, description="CPU threads (of each worker); 0: all cores, or one for each worker"
    )
    workers: int = Field(
        default=1, ge=1, le=1024, description="processes on Ray that share every batch; 1: no Ray (docs/scale.md)"
    )
    parts: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="parts of a batch, for threads and workers; 0: as many as threads, or 4 with workers",
    )
    seed: int = Field(default=7, ge=0, description="of the initial weights, the batches' order and dropout")

    @property
    def fixed_parts(self) -> int:
        """The number of parts of a batch; 0 if it follows the threads."""
        return self.parts or (WORKERS_PARTS if self.workers > 1 else 0)

    @model_validator(mode="after")
    def _refuse_idle_workers(self) -> "TrainParams":
        if self.workers == 1:
            return self
        windows = -(-self.batch_size // self.fixed_parts)  # of each part but the last
        most = -(-self.batch_size // windows)
        if self.workers > most:
            raise ValueError(
                f"found {self.workers} workers, allowed are at most {most}: parts is {self.fixed_parts}, "
                f"batch_size {self.batch_size}"
            )
        return self


class EvaluateParams(Group):
    """How perplexity is measured: in windows, each read from the zero state."""

    window: int = Field(
        default=100,
        ge=2,
        le=65_535,
        description="characters in each window; perplexities compare only at the same window",
    )
    batch_size: int = Field(default=32, ge=1, le=65_536, description="windows at once; only matters for the batch mean")
    baseline_order: int = Field(
        default=9, ge=0, le=16, description="characters of context of the n-gram baseline; 0: no baseline"
    )
    adaptive: bool = Field(
        default=False, description="measure also how well the model predicts a text that it learns from as it reads"
    )

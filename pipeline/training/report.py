"""What a training says of itself after every update. No torch: whoever shows it needs none."""

from dataclasses import dataclass


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

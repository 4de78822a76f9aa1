"""Writes and reads the training curve, a CSV file (complete at any time, so `dvc plots show` works meanwhile).

Writes the tutorial's curve too.
"""

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.errors import UserError
from pipeline.core.files import whole_file
from pipeline.params.training import ModelParams, TrainParams


@dataclass(frozen=True)
class StepMetrics:
    """The metrics after update `step` (from 1) of `steps`.

    `seconds` are those since the start of training, including evaluations; `chars` is the number of characters trained
    on so far. `train_perplexity` is over the updates since the last evaluation, with dropout. `recent_perplexity` is
    the same over the updates since the last point of the curve, and None if this update is not a point: every
    evaluation is one, and at least one update in each 2 % of the training. `eval_perplexity` is None between
    evaluations. `gradient_norm` is measured before clipping. `is_best`: this eval perplexity is the lowest yet.
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
        """Whether the update is a point of the curve."""
        return self.recent_perplexity is not None


def write_curve(path: Path, points: Iterable[StepMetrics]) -> None:
    """Write one row per point of the curve."""
    with whole_file(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        for number, point in enumerate(points):
            row = curve_row(point)
            if number == 0:
                rows.writerow(row)
            rows.writerow(row.values())


def curve_row(point: StepMetrics) -> dict[str, str]:
    """Return the CSV's columns of a point of the curve; `eval_perplexity` is empty where it was not measured.

    `train_perplexity` is over the updates since the row before.
    """
    train = point.train_perplexity if point.recent_perplexity is None else point.recent_perplexity
    return {
        "step": str(point.step),
        "epoch": f"{point.epoch:.4f}",
        "seconds": f"{point.seconds:.2f}",
        "train_perplexity": f"{train:.6f}",
        "eval_perplexity": "" if point.eval_perplexity is None else f"{point.eval_perplexity:.6f}",
        "learning_rate": f"{point.learning_rate:.8g}",
        "gradient_norm": f"{point.gradient_norm:.6g}",
        "chars_per_second": f"{point.chars / point.seconds:.0f}",
    }


def read_curve(path: Path, *columns: str) -> list[dict[str, float | None]]:
    """Return these columns (see `curve_row`) of the curve in `path`, None where nothing was measured.

    UserError if the file cannot be read, or a cell is neither empty nor a finite number.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        places = {name: header.index(name) for name in columns}
        return [{name: _cell(row[place]) for name, place in places.items()} for row in rows]
    except (OSError, ValueError, IndexError, csv.Error):
        raise UserError(f"{path}: not a training curve; `dvc repro` or `dvc checkout` restores it") from None


def _cell(text: str) -> float | None:
    value = float(text) if text else None
    if value is not None and not math.isfinite(value):
        raise ValueError
    return value


# The eval perplexities that the MXNet tutorial printed, by epoch.
TUTORIAL_PERPLEXITY = {1: 4.92, 2: 4.30, 3: 4.07, 4: 3.98, 5: 3.90}


def is_tutorial(model: ModelParams, train: TrainParams) -> bool:
    """Return whether a training has the network, optimiser and batches of the tutorial, so that it is comparable."""
    network = (model.cell, model.num_layers, model.num_hidden, model.num_embed)
    return (
        network == ("lstm", 2, 96, 64)
        and (train.optimizer.name, train.batch_size, train.loss) == ("adadelta", 32, "window_sum")
        and not train.shift_windows
    )


def write_tutorial(path: Path, *, compare: bool) -> None:
    """Write the tutorial's curve as CSV; without `compare` only the header, so that the plot shows nothing."""
    with whole_file(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["epoch", "tutorial_eval_perplexity"])
        rows.writerows(TUTORIAL_PERPLEXITY.items() if compare else [])

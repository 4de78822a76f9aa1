"""The training curve as a CSV file, whole at every moment: `dvc plots show` follows a running training."""

import csv
from collections.abc import Iterable
from pathlib import Path

from pipeline.core.files import whole_file
from pipeline.params.training import ModelParams, TrainParams
from pipeline.training.loop import Report


def write_curve(path: Path, points: Iterable[Report]) -> None:
    """Write one row per point of the curve."""
    with whole_file(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        for number, point in enumerate(points):
            row = curve_row(point)
            if number == 0:
                rows.writerow(row)
            rows.writerow(row.values())


def curve_row(point: Report) -> dict[str, str]:
    """Return a point of the curve as the CSV's columns; `eval_perplexity` is empty where it was not measured.

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


EVAL_PERPLEXITY = {1: 4.92, 2: 4.30, 3: 4.07, 4: 3.98, 5: 3.90}


def is_tutorial(model: ModelParams, train: TrainParams) -> bool:
    """Return whether a training has the tutorial's network, optimiser and batches."""
    network = (model.cell, model.num_layers, model.num_hidden, model.num_embed)
    return (
        network == ("lstm", 2, 96, 64)
        and (train.optimizer.name, train.batch_size, train.loss) == ("adadelta", 32, "window_sum")
        and not train.shift_windows
    )


def write_tutorial(path: Path, *, compare: bool) -> None:
    """Write the tutorial's points as CSV, none if they are not to be compared with."""
    with whole_file(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["epoch", "tutorial_eval_perplexity"])
        rows.writerows(EVAL_PERPLEXITY.items() if compare else [])

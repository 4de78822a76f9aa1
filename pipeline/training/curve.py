"""The training curve as a CSV file, whole at every moment: `dvc plots show` follows a running training."""

import csv
from collections.abc import Iterable
from pathlib import Path

from pipeline.files import whole_file
from pipeline.training.report import Report


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

"""The training curve as a CSV file, whole at every moment: `dvc plots show` follows a running training."""

import csv
from collections.abc import Iterable
from pathlib import Path

from pipeline.files import whole_file
from pipeline.training.report import Report


def write_curve(path: Path, points: Iterable[Report]) -> None:
    """Write one row per evaluation."""
    with whole_file(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        for number, point in enumerate(points):
            row = curve_row(point)
            if number == 0:
                rows.writerow(row)
            rows.writerow(row.values())


def curve_row(point: Report) -> dict[str, str]:
    """Return a report of an evaluation as the CSV's columns."""
    return {
        "step": str(point.step),
        "epoch": f"{point.epoch:.4f}",
        "seconds": f"{point.seconds:.2f}",
        "train_perplexity": f"{point.train_perplexity:.6f}",
        "eval_perplexity": f"{point.eval_perplexity:.6f}",
        "learning_rate": f"{point.learning_rate:.8g}",
        "gradient_norm": f"{point.gradient_norm:.6g}",
        "chars_per_second": f"{point.chars / point.seconds:.0f}",
    }

"""Draws training curves as a Mermaid chart, which GitHub and GitLab render in comments without a hosted image."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.core.errors import UserError

COLOURS = ("#d9480f", "#1c7ed6", "#2b8a3e", "#862e9c")
# Mermaid's axis has one label per point.
POINTS = 12

# Epochs and perplexities of the eval text.
Curve = tuple[list[float], list[float]]


def read_curve(folder: Path, name: str) -> Curve:
    """Return the evaluations in `folder`/plots/train.csv; UserError, naming revision `name`, if there is none."""
    path = folder / "plots/train.csv"
    if not path.exists():
        raise UserError(f"{name}: no plots/train.csv; `dvc repro` creates it")
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["eval_perplexity"]]
    if not rows:
        raise UserError(f"{name}: plots/train.csv has no evaluation")
    return [float(row["epoch"]) for row in rows], [float(row["eval_perplexity"]) for row in rows]


def mermaid(curves: Sequence[tuple[str, Curve]]) -> str:
    """Return the chart as a fenced Markdown block; the x axis is the share of each curve's own training.

    Mermaid has no legend, so the line above the chart lists the names in the order of the curves.
    """
    # The chart starts where every curve has a point, so that nothing is drawn that was not measured.
    start = max(epochs[0] / epochs[-1] for _, (epochs, _) in curves)
    shares = np.linspace(start, 1, POINTS) if start < 1 else np.ones(1)
    lines = []
    for _, (epochs, perplexities) in curves:
        at = np.asarray(epochs) / epochs[-1]
        lines.append(np.interp(shares, at, perplexities))
    low, high = min(line.min() for line in lines), max(line.max() for line in lines)
    palette = ", ".join(COLOURS[: len(curves)])
    names = " · ".join(f"{name}: {curve[1][-1]:.3f}" for name, curve in curves)
    return "\n".join(
        [
            f"Eval perplexity, in the chart's order of lines: {names}",
            "",
            "```mermaid",
            f"%%{{init: {{'themeVariables': {{'xyChart': {{'plotColorPalette': '{palette}'}}}}}}}}%%",
            "xychart-beta",
            '    title "eval perplexity while training"',
            f'    x-axis "% of the training" [{", ".join(f"{100 * share:.0f}" for share in shares)}]',
            f'    y-axis "perplexity" {0.95 * low:.2f} --> {1.02 * high:.2f}',
            *(f"    line [{', '.join(f'{value:.3f}' for value in line)}]" for line in lines),
            "```",
        ]
    )

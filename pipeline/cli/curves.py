"""`charlm curves`: training curves as a chart that GitHub and GitLab draw in comments."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from pipeline.core.errors import UserError
from pipeline.core.layout import CURVE

MAX_CURVES = 4
COLOURS = ("#d9480f", "#1c7ed6", "#2b8a3e", "#862e9c")
# Mermaid's axis has one label per point.
POINTS = 12

# Epochs and perplexities of the eval text.
Curve = tuple[list[float], list[float]]


def curves(
    revisions: Annotated[list[str] | None, typer.Argument(help="Commits, branches or experiments.")] = None,
) -> None:
    """Print the workspace's training curve, and those of other revisions, as a Mermaid chart in Markdown."""
    from pipeline.tracking.records import snapshot  # loads DVC

    names = revisions or []
    if len(names) >= MAX_CURVES:
        raise UserError(f"curves: found {len(names)} revisions, allowed are at most {MAX_CURVES - 1}")
    found = []
    for name in names:
        with snapshot(name) as folder:
            found.append((name, read_curve(folder, name)))
    found.append(("this", read_curve(Path(), "the workspace")))
    print(mermaid(found))


def read_curve(folder: Path, name: str) -> Curve:
    """Return the evaluations in the training curve in `folder`; UserError, naming revision `name`, if there is none."""
    path = folder / CURVE
    if not path.exists():
        raise UserError(f"{name}: no {CURVE}; `dvc repro` creates it")
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["eval_perplexity"]]
    if not rows:
        raise UserError(f"{name}: {CURVE} has no evaluation")
    return [float(row["epoch"]) for row in rows], [float(row["eval_perplexity"]) for row in rows]


def mermaid(curves: Sequence[tuple[str, Curve]]) -> str:
    """Return a Mermaid chart, which GitHub and GitLab draw in comments; the x axis is the share of each training.

    Mermaid has no legend, so the line above the chart lists the names in the order of the curves.
    """
    import numpy as np  # not for --help

    # The chart starts where every curve has a point, so that it shows only what was measured.
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

"""`charlm compare` and `curves`: a table of models, the best first, and their training curves as a chart."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.core.errors import UserError
from pipeline.core.files import CURVE
from pipeline.training.curve import read_curve

if TYPE_CHECKING:
    from pipeline.lineage.entries import Entry, Found, Group
    from pipeline.tracking.store import Registered


WIDTH, NARROWEST = 100, 60
MAX_NAME = 32
GAP = 2
UNKNOWN = "-"


@dataclass(frozen=True)
class Column:
    """A column of the table: its heading and the text of each cell by the entry's name."""

    heading: str
    cells: dict[str, str]
    is_number: bool = True

    @property
    def width(self) -> int:
        """The width of the widest cell."""
        return max(map(len, [self.heading, *self.cells.values()]))


def compare(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[EXP]...", help="Experiments, commits, or workspace; default: all that build on HEAD."),
    ] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Also the experiments that build on other commits.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with all params that differ.")] = False,
) -> None:
    """Compare experiments: perplexity, baseline, bits, seconds, and the params that differ. The best comes first."""
    from pipeline.lineage.entries import aliases, by_measurement, everything_here, named
    from pipeline.tracking.differences import differing
    from pipeline.tracking.store import registered_versions

    if names and every:
        raise UserError("--all: found with names, allowed is one of them")
    found = named(names) if names else everything_here(every_baseline=every)
    for remark in found.remarks:
        print(remark, file=sys.stderr)
    if not found.entries:
        raise UserError("nothing to compare: no figures in the workspace, HEAD or an experiment; run `dvc repro` first")
    texts = by_measurement(found.entries)
    keys = differing([one.params for one in found.entries])
    try:
        models = aliases(found.entries, registered_versions())
    except UserError as error:  # the figures are DVC's: they can be compared without the registry
        print(f"warning: the models' aliases are not shown: {error}", file=sys.stderr)
        models = {}
    if as_json:
        print(json.dumps(_as_data(texts, keys, models), indent=2, ensure_ascii=False))
        return
    _print_table(found, texts, keys, models)


def _print_table(found: "Found", texts: "list[Group]", keys: list[str], models: "dict[str, Registered]") -> None:
    console = Console(highlight=False)
    width = WIDTH if not console.is_terminal else max(NARROWEST, min(WIDTH, console.width))
    console.width = width
    first, params = _columns(found.entries, keys, models)
    shown = _fitting(first, params, width)
    columns = [*first, *shown]
    for number, text in enumerate(texts):
        if len(texts) > 1:
            console.print(Text(text.title, style="dim"))
        console.print(_table(text, columns, models, header=number == 0), crop=False)
    for line in _remarks(found, texts, keys[len(shown) :]):
        console.print(Text(line, style="dim"), soft_wrap=False)


def _columns(
    entries: "Sequence[Entry]", keys: list[str], models: "dict[str, Registered]"
) -> tuple[list[Column], list[Column]]:
    """Return the columns of figures, without those that no entry has, and those of params."""
    from pipeline.tracking.differences import format_param, short_names

    figures = [
        Column("perplexity", {one.name: _shown(one.perplexity, 3) for one in entries}),
        Column("baseline", {one.name: _shown(one.baseline_perplexity, 3) for one in entries}),
        Column("bits", {one.name: _shown(one.bits_per_char, 3) for one in entries}),
        Column("seconds", {one.name: _shown(one.seconds, 1) for one in entries}),
        Column("model", {one.name: models[one.name].alias if one.name in models else "" for one in entries}, False),
    ]
    known = [column for column in figures if set(column.cells.values()) - {"", UNKNOWN}]
    names = Column("name", {one.name: _name(one) for one in entries}, is_number=False)
    headings = short_names(keys, all_keys=[key for one in entries for key in one.params])
    params = [Column(headings[key], {one.name: format_param(one.params, key) for one in entries}) for key in keys]
    return [names, *known], params


def _name(entry: "Entry") -> str:
    return f"{entry.name} (here)" if entry.is_here and entry.kind != "workspace" else entry.name


def _fitting(first: Sequence[Column], params: Sequence[Column], width: int) -> list[Column]:
    """Return the first of `params` that fit into `width` after the `first` columns."""
    left = width - sum(min(column.width, MAX_NAME) + GAP for column in first) + GAP
    shown = []
    for column in params:
        left -= column.width + GAP
        if left < 0:
            break
        shown.append(column)
    return shown


def _table(text: "Group", columns: Sequence[Column], models: "dict[str, Registered]", *, header: bool) -> Table:
    table = Table(box=None, header_style="dim", show_header=header, padding=(0, GAP, 0, 0), pad_edge=False)
    for column in columns:
        table.add_column(
            column.heading,
            justify="right" if column.is_number else "left",
            width=min(column.width, MAX_NAME),
            overflow="fold",
            no_wrap=column.width <= MAX_NAME,
        )
    for entry in text.entries:
        is_champion = entry.name in models and models[entry.name].alias == "champion"
        # Text: names and values may contain what looks like Rich's markup.
        table.add_row(*(Text(column.cells[entry.name]) for column in columns), style="bold" if is_champion else "")
    return table


def _remarks(found: "Found", texts: "list[Group]", left_out: list[str]) -> list[str]:
    remarks = []
    if len(texts) > 1:
        remarks.append("figures of different eval texts or windows are not comparable: each group has its own order")
    if left_out:
        few = ", ".join(left_out[:6]) + (", …" if len(left_out) > 6 else "")
        remarks.append(f"{len(left_out)} more params differ: {few}; --json has them all")
    if found.others:
        one = found.others == 1
        remarks.append(
            f"{found.others} experiment{'' if one else 's'} on other commits {'is' if one else 'are'} not shown: "
            "charlm compare --all, or name what to compare: charlm compare EXP…"
        )
    return remarks


def _as_data(texts: "list[Group]", keys: list[str], models: "dict[str, Registered]") -> dict[str, Any]:
    """Return the comparison as plain data; `rank` counts among those measured alike, None if that is unknown."""
    from pipeline.evaluation.measurement import measurement_id

    rows = []
    for text in texts:
        for rank, entry in enumerate(text.entries, 1):
            model = models.get(entry.name)
            rows.append(
                {
                    "name": entry.name,
                    "kind": entry.kind,
                    "commit": entry.commit,
                    "here": entry.is_here,
                    "rank": None if text.measurement is None else rank,
                    "perplexity": entry.perplexity,
                    "baseline_perplexity": entry.baseline_perplexity,
                    "bits_per_char": entry.bits_per_char,
                    "train_seconds": entry.seconds,
                    "measurement_id": measurement_id(entry.measurement) or None,
                    "eval_sha256": (entry.measurement or {}).get("eval_sha256"),
                    "window": (entry.measurement or {}).get("window"),
                    "model": f"{model.model}/{model.version}" if model else None,
                    "alias": model.alias if model else None,
                    "params": {key: entry.params[key] for key in keys if key in entry.params},
                }
            )
    return {"differing": keys, "models": rows}


def _shown(value: float | None, digits: int) -> str:
    return UNKNOWN if value is None else f"{value:.{digits}f}"


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
            found.append((name, curve_in(folder, name)))
    found.append(("this", curve_in(Path(), "the workspace")))
    print(mermaid(found))


def curve_in(folder: Path, name: str) -> Curve:
    """Return the evaluations in the training curve in `folder`; UserError, naming revision `name`, if there is none."""
    if not (folder / CURVE).exists():
        raise UserError(f"{name}: no {CURVE}; `dvc repro` creates it")
    try:
        points = read_curve(folder / CURVE, "epoch", "eval_perplexity")
    except UserError:
        raise UserError(f"{name}: {CURVE} is not a training curve; `dvc repro` or `dvc checkout` restores it") from None
    measured = [(point["epoch"], point["eval_perplexity"]) for point in points]
    pairs = [(epoch, perplexity) for epoch, perplexity in measured if epoch and perplexity]
    if not pairs:
        raise UserError(f"{name}: {CURVE} has no evaluation")
    return [epoch for epoch, _ in pairs], [perplexity for _, perplexity in pairs]


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

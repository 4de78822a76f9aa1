"""Draws the report's charts as Vega-Lite specifications, which altair validates; None where there is no data."""

from collections.abc import Sequence
from typing import Any, Literal

import altair as alt

from pipeline.reporting.project import Project, Row, decimal, is_number, visible
from pipeline.reporting.tables import character_rows

Spec = dict[str, Any]

FONT = "system-ui, sans-serif"
HEIGHT = 280
# style.css has this number of colours, --e1, --e2, …; with more projects they repeat.
NUM_COLOURS = 8
SERIES = ("eval", "train", "as published")
SERIES_COLOURS = ("var(--eval)", "var(--train)", "var(--dim)")
SERIES_DASHES = ([1, 0], [6, 4], [2, 4])
TICKS = (1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 10, 12, 15, 20, 30, 50, 100, 200, 500, 1000)


def chart(rows: Sequence[Row]) -> alt.Chart:
    """Return a chart whose specification contains `rows`."""
    return alt.Chart(alt.InlineData(values=list(rows)))


def perplexity(values: Sequence[float]) -> alt.Y:
    """Return a logarithmic axis of perplexities for the range of `values`."""
    low, high = min(values) / 1.05, max(values) * 1.05
    ticks = [tick for tick in TICKS if low <= tick <= high]
    axis = alt.Axis(values=ticks or alt.Undefined, format="~g", labelOverlap="greedy")
    scale = alt.Scale(type="log", domain=[low, high], nice=False)
    return alt.Y("perplexity:Q", title="perplexity (log scale)", scale=scale, axis=axis)


def occurrences(values: Sequence[float]) -> alt.X:
    """Return a logarithmic axis of counts for the range of `values`."""
    ticks = [factor * 10**power for power in range(9) for factor in (1, 2, 5)]
    axis = alt.Axis(values=ticks, format="~s", grid=False, labelOverlap="greedy")
    scale = alt.Scale(type="log", domain=[min(values) / 1.3, max(values) * 1.3], nice=False)
    return alt.X("count:Q", title="occurrences (log scale)", scale=scale, axis=axis)


def colours(projects: Sequence[Project], rows: Sequence[Row], *, symbol: str = "stroke") -> alt.Color:
    """Return the colours, with a legend: of the series of a single project, or else one for each project."""
    if len(projects) == 1:
        shown = _present(rows)
        scale = alt.Scale(domain=[name for name, _, _ in shown], range=[colour for _, colour, _ in shown])
        return alt.Color("series:N", scale=scale, legend=legend(symbol))
    scale = alt.Scale(
        domain=[project.name for project in projects],
        range=[f"var(--e{at % NUM_COLOURS + 1})" for at in range(len(projects))],
    )
    return alt.Color("name:N", scale=scale, legend=legend(symbol))


def dashes(rows: Sequence[Row]) -> alt.StrokeDash:
    """Return the dashes of the series."""
    shown = _present(rows)
    scale = alt.Scale(domain=[name for name, _, _ in shown], range=[dash for _, _, dash in shown])
    return alt.StrokeDash("series:N", scale=scale, legend=legend())


def legend(symbol: str = "stroke") -> alt.Legend:
    """Return a legend above the chart."""
    return alt.Legend(title=None, orient="top", symbolType=symbol, labelLimit=300)


def tooltip(projects: Sequence[Project], *more: alt.Tooltip) -> list[alt.Tooltip]:
    """Return the fields of a point's tooltip: its project if there are several, and `more`."""
    name = [alt.Tooltip("name:N", title="experiment")] if len(projects) > 1 else []
    return [*name, *more]


def targets(base: alt.Chart) -> alt.Chart:
    """Return large invisible points, which make tooltips easy to hit."""
    points: alt.Chart = base.mark_point(filled=True, size=300, opacity=0)
    return points


def finished(layers: Sequence[alt.Chart], *, height: int = HEIGHT) -> Spec:
    """Return the specification of a chart of `layers`, as wide as its element on the page."""
    whole: Any = alt.layer(*layers)
    configured = (
        whole.properties(width="container", height=height, background="transparent", padding=4)
        .configure(font=FONT)
        .configure_view(stroke=None)
        .configure_axis(
            labelColor="var(--dim)",
            titleColor="var(--ink)",
            gridColor="var(--line)",
            domainColor="var(--edge)",
            tickColor="var(--edge)",
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
        )
        .configure_legend(labelColor="var(--ink)", labelFontSize=12, symbolStrokeWidth=2, symbolSize=160)
        .configure_text(font=FONT, fontSize=12)
    )
    spec: Spec = configured.to_dict()
    return spec


def _present(rows: Sequence[Row]) -> list[tuple[str, str, list[int]]]:
    """Return the name, colour and dashes of each series in `rows`."""
    names = {row["series"] for row in rows}
    return [one for one in zip(SERIES, SERIES_COLOURS, SERIES_DASHES, strict=True) if one[0] in names]


TEXT_FONT = "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
TALL = 640
# With more points than this, dots would hide the line.
MAX_DOTS = 60
MAX_LETTERS = 30
PERPLEXITY = alt.Tooltip("perplexity:Q", format=".3f")

AXES: dict[Literal["epoch", "seconds"], str] = {"epoch": "epoch", "seconds": "seconds of training"}


def curve(projects: Sequence[Project], x: Literal["epoch", "seconds"]) -> Spec | None:
    """Return train and eval perplexity during training; for a single project also the tutorial's published curve."""
    rows = [row for project in projects for row in _curve_rows(project, x)]
    if not rows:
        return None
    if len(projects) == 1:
        rows += _points(projects[0], "plots/tutorial.csv", x, SERIES[2], "tutorial_eval_perplexity")
    base = chart(rows).encode(
        x=alt.X(f"{x}:Q", title=AXES[x], axis=alt.Axis(grid=False, tickCount=6), scale=alt.Scale(zero=True, padding=8)),
        y=perplexity([row["perplexity"] for row in rows]),
        color=colours(projects, rows),
        tooltip=tooltip(
            projects, alt.Tooltip("series:N"), alt.Tooltip(f"{x}:Q", title=AXES[x], format=",.4~r"), PERPLEXITY
        ),
    )
    layers = [base.mark_line(strokeWidth=2).encode(strokeDash=dashes(rows))]
    if max(sum(row["name"] == project.name for row in rows) for project in projects) <= MAX_DOTS:
        learnt = alt.datum.series == SERIES[1]
        layers.append(base.transform_filter(learnt).mark_point(filled=True, size=30, opacity=1))
        rings = base.transform_filter(~learnt)
        layers.append(rings.mark_point(filled=False, fill="var(--sheet)", size=40, opacity=1, strokeWidth=2))
    return finished([*layers, targets(base)])


def position(projects: Sequence[Project]) -> Spec | None:
    """Return perplexity by position in the window; for a single project with its means as horizontal lines."""
    rows = [
        {"name": project.name, **row}
        for project in projects
        for row in project.read_csv("plots/position.csv", ("position", "perplexity", "chars"))
    ]
    if not rows:
        return None
    means = _means(projects[0]) if len(projects) == 1 else []
    base = chart(rows).encode(
        x=alt.X("position:Q", title="characters read from zero state", axis=alt.Axis(grid=False, tickCount=10)),
        y=perplexity([row["perplexity"] for row in rows + means]),
        tooltip=tooltip(
            projects, alt.Tooltip("position:Q"), alt.Tooltip("chars:Q", title="characters", format=","), PERPLEXITY
        ),
    )
    if len(projects) > 1:
        base = base.encode(color=colours(projects, rows))
        return finished([base.mark_line(strokeWidth=2), targets(base)])
    layers = [base.mark_line(strokeWidth=2, color="var(--eval)"), targets(base)]
    if means:
        names = [mean["label"] for mean in means]
        dashes = alt.StrokeDash(
            "label:N",
            scale=alt.Scale(domain=names, range=[[8, 3], [2, 3], [1, 0]][: len(names)]),
            legend=legend(),
        )
        lines = chart(means).mark_rule(strokeWidth=1.5, color="var(--train)")
        layers.append(lines.encode(y="perplexity:Q", strokeDash=dashes))
    return finished(layers)


def characters(project: Project) -> Spec | None:
    """Return the characters of the eval text, by how often they occur and how hard they are to predict."""
    rows = [
        {
            "sign": visible(row["character"]),
            "count": row["count"],
            "bits": row["bits"],
            "share": row["share_of_loss"],
        }
        for row in character_rows(project)[:MAX_LETTERS]
    ]
    if not rows:
        return None
    base = chart(rows).encode(
        x=occurrences([row["count"] for row in rows]),
        y=alt.Y("bits:Q", title="mean bits", scale=alt.Scale(domainMin=0, nice=True), axis=alt.Axis(tickCount=6)),
        tooltip=[
            alt.Tooltip("sign:N", title="character"),
            alt.Tooltip("count:Q", format=",", title="occurrences"),
            alt.Tooltip("bits:Q", format=".2f", title="mean bits"),
            alt.Tooltip("share:Q", format=".1%", title="share of the loss"),
        ],
    )
    letters = base.mark_text(font=TEXT_FONT, fontWeight=600, color="var(--ink)").encode(
        text="sign:N", size=alt.Size("share:Q", scale=alt.Scale(range=[12, 30]), legend=None)
    )
    return finished([letters, targets(base)], height=TALL)


def character_differences(projects: Sequence[Project]) -> Spec | None:
    """Return the mean bits of each character, a point for each project; first the characters hardest for the first."""
    costly = [row["character"] for row in character_rows(projects[0])[:MAX_LETTERS]]
    rows = [
        {"name": project.name, "sign": visible(row["character"]), "bits": row["bits"]}
        for project in projects
        for row in character_rows(project)
        if row["character"] in costly
    ]
    if not rows:
        return None
    base = chart(rows).encode(
        x=alt.X("bits:Q", title="mean bits", scale=alt.Scale(domainMin=0), axis=alt.Axis(tickCount=8)),
        y=alt.Y("sign:N", title=None, sort=list(map(visible, costly)), axis=alt.Axis(labelFont=TEXT_FONT, ticks=False)),
        tooltip=[
            alt.Tooltip("name:N", title="experiment"),
            alt.Tooltip("sign:N", title="character"),
            alt.Tooltip("bits:Q", format=".2f", title="mean bits"),
        ],
    )
    span = chart(rows).mark_rule(color="var(--edge)")
    span = span.encode(x="min(bits):Q", x2="max(bits):Q", y=alt.Y("sign:N", sort=list(map(visible, costly))))
    dots = base.mark_point(filled=True, size=60, opacity=1).encode(color=colours(projects, rows, symbol="circle"))
    return finished([span, dots, targets(base)], height=TALL)


def _curve_rows(project: Project, x: str) -> list[Row]:
    columns = zip(SERIES[:2], ("eval_perplexity", "train_perplexity"), strict=True)
    return [row for series, column in columns for row in _points(project, "plots/train.csv", x, series, column)]


def _points(project: Project, file: str, x: str, series: str, column: str) -> list[Row]:
    return [
        {"name": project.name, "series": series, x: row[x], "perplexity": row[column]}
        for row in project.read_csv(file, (x, column))
    ]


def _means(project: Project) -> list[Row]:
    figures = project.metrics("evaluate")
    return [
        {"perplexity": figures[key], "label": f"{label}: {decimal(figures[key])}"}
        for key, label in (
            ("perplexity", "mean of all positions"),
            ("perplexity_stateful", "the state carried through the whole text"),
            ("perplexity_adaptive", "learning as it reads the whole text"),
            ("baseline_perplexity", "n-gram baseline"),
        )
        if is_number(figures.get(key))
    ]

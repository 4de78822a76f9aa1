"""The charts, one function each, as Vega-Lite that altair has checked; None where there is nothing to draw."""

from collections.abc import Sequence
from typing import Literal

import altair as alt

from pipeline.reporting import chart_parts as parts
from pipeline.reporting.breakdown import character_rows
from pipeline.reporting.chart_parts import Spec
from pipeline.reporting.project import Project, Row
from pipeline.reporting.words import decimal, is_number, sign

TEXT_FONT = "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
TALL = 640
# With more points than this, dots would only blur the line.
MOST_DOTS = 60
MOST_LETTERS = 30
PERPLEXITY = alt.Tooltip("perplexity:Q", format=".3f")

AXES: dict[Literal["epoch", "seconds"], str] = {"epoch": "epoch", "seconds": "seconds of training"}


def curve(projects: Sequence[Project], x: Literal["epoch", "seconds"]) -> Spec | None:
    """Return perplexity against `x` while training, of train and eval; beside one project the tutorial's own."""
    rows = [row for project in projects for row in _curve_rows(project, x)]
    if not rows:
        return None
    if len(projects) == 1:
        rows += _points(projects[0], "plots/tutorial.csv", x, parts.SERIES[2], "tutorial_eval_perplexity")
    base = parts.chart(rows).encode(
        x=alt.X(f"{x}:Q", title=AXES[x], axis=alt.Axis(grid=False, tickCount=6), scale=alt.Scale(zero=True, padding=8)),
        y=parts.perplexity([row["perplexity"] for row in rows]),
        color=parts.colours(projects, rows),
        tooltip=parts.tooltip(
            projects, alt.Tooltip("series:N"), alt.Tooltip(f"{x}:Q", title=AXES[x], format=",.4~r"), PERPLEXITY
        ),
    )
    layers = [base.mark_line(strokeWidth=2).encode(strokeDash=parts.dashes(rows))]
    if max(sum(row["name"] == project.name for row in rows) for project in projects) <= MOST_DOTS:
        learnt = alt.datum.series == parts.SERIES[1]
        layers.append(base.transform_filter(learnt).mark_point(filled=True, size=30, opacity=1))
        rings = base.transform_filter(~learnt)
        layers.append(rings.mark_point(filled=False, fill="var(--sheet)", size=40, opacity=1, strokeWidth=2))
    return parts.finished([*layers, parts.targets(base)])


def position(projects: Sequence[Project]) -> Spec | None:
    """Return perplexity by position in the window; of one project with its means over all positions as lines."""
    rows = [
        {"name": project.name, **row}
        for project in projects
        for row in project.rows("plots/position.csv", ("position", "perplexity", "chars"))
    ]
    if not rows:
        return None
    means = _means(projects[0]) if len(projects) == 1 else []
    base = parts.chart(rows).encode(
        x=alt.X("position:Q", title="characters read from zero state", axis=alt.Axis(grid=False, tickCount=10)),
        y=parts.perplexity([row["perplexity"] for row in rows + means]),
        tooltip=parts.tooltip(
            projects, alt.Tooltip("position:Q"), alt.Tooltip("chars:Q", title="characters", format=","), PERPLEXITY
        ),
    )
    if len(projects) > 1:
        base = base.encode(color=parts.colours(projects, rows))
        return parts.finished([base.mark_line(strokeWidth=2), parts.targets(base)])
    layers = [base.mark_line(strokeWidth=2, color="var(--eval)"), parts.targets(base)]
    if means:
        names = [mean["label"] for mean in means]
        dashes = alt.StrokeDash(
            "label:N",
            scale=alt.Scale(domain=names, range=[[8, 3], [2, 3], [1, 0]][: len(names)]),
            legend=parts.legend(),
        )
        lines = parts.chart(means).mark_rule(strokeWidth=1.5, color="var(--train)")
        layers.append(lines.encode(y="perplexity:Q", strokeDash=dashes))
    return parts.finished(layers)


def characters(project: Project) -> Spec | None:
    """Return the characters of the eval text by how often they occur and how hard they are to predict."""
    rows = [
        {
            "sign": sign(row["character"]),
            "count": row["count"],
            "bits": row["bits"],
            "share": row["share_of_loss"],
        }
        for row in character_rows(project)[:MOST_LETTERS]
    ]
    if not rows:
        return None
    base = parts.chart(rows).encode(
        x=parts.occurrences([row["count"] for row in rows]),
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
    return parts.finished([letters, parts.targets(base)], height=TALL)


def character_differences(projects: Sequence[Project]) -> Spec | None:
    """Return the mean bits of each character, a point per project, the characters that cost the first most on top."""
    costly = [row["character"] for row in character_rows(projects[0])[:MOST_LETTERS]]
    rows = [
        {"name": project.name, "sign": sign(row["character"]), "bits": row["bits"]}
        for project in projects
        for row in character_rows(project)
        if row["character"] in costly
    ]
    if not rows:
        return None
    base = parts.chart(rows).encode(
        x=alt.X("bits:Q", title="mean bits", scale=alt.Scale(domainMin=0), axis=alt.Axis(tickCount=8)),
        y=alt.Y("sign:N", title=None, sort=list(map(sign, costly)), axis=alt.Axis(labelFont=TEXT_FONT, ticks=False)),
        tooltip=[
            alt.Tooltip("name:N", title="experiment"),
            alt.Tooltip("sign:N", title="character"),
            alt.Tooltip("bits:Q", format=".2f", title="mean bits"),
        ],
    )
    span = parts.chart(rows).mark_rule(color="var(--edge)")
    span = span.encode(x="min(bits):Q", x2="max(bits):Q", y=alt.Y("sign:N", sort=list(map(sign, costly))))
    dots = base.mark_point(filled=True, size=60, opacity=1).encode(color=parts.colours(projects, rows, symbol="circle"))
    return parts.finished([span, dots, parts.targets(base)], height=TALL)


def _curve_rows(project: Project, x: str) -> list[Row]:
    columns = zip(parts.SERIES[:2], ("eval_perplexity", "train_perplexity"), strict=True)
    return [row for series, column in columns for row in _points(project, "plots/train.csv", x, series, column)]


def _points(project: Project, file: str, x: str, series: str, column: str) -> list[Row]:
    return [
        {"name": project.name, "series": series, x: row[x], "perplexity": row[column]}
        for row in project.rows(file, (x, column))
    ]


def _means(project: Project) -> list[Row]:
    figures = project.metrics("evaluate")
    return [
        {"perplexity": figures[key], "label": f"{label}: {decimal(figures[key])}"}
        for key, label in (
            ("perplexity", "mean of all positions"),
            ("perplexity_stateful", "the state carried through the whole text"),
            ("baseline_perplexity", "n-gram baseline"),
        )
        if is_number(figures.get(key))
    ]

"""What the charts share: scales, colours, legends, and the settings of all.

Colours are the page's CSS variables, which an SVG resolves by itself: light, dark and print need no second drawing.
"""

from collections.abc import Sequence
from typing import Any

import altair as alt

from pipeline.reporting.project import Project, Row

Spec = dict[str, Any]

FONT = "system-ui, sans-serif"
HEIGHT = 280
# As many as style.css has colours --e1, --e2, …; more projects begin again.
NUM_COLOURS = 8
SERIES = ("eval", "train", "as published")
SERIES_COLOURS = ("var(--eval)", "var(--train)", "var(--dim)")
SERIES_DASHES = ([1, 0], [6, 4], [2, 4])
TICKS = (1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 10, 12, 15, 20, 30, 50, 100, 200, 500, 1000)


def chart(rows: Sequence[Row]) -> alt.Chart:
    """Return a chart of `rows`, which go into its specification."""
    return alt.Chart(alt.InlineData(values=list(rows)))


def perplexity(values: Sequence[float]) -> alt.Y:
    """Return the axis of perplexities, just as far as `values` reach."""
    low, high = min(values) / 1.05, max(values) * 1.05
    ticks = [tick for tick in TICKS if low <= tick <= high]
    axis = alt.Axis(values=ticks or alt.Undefined, format="~g", labelOverlap="greedy")
    scale = alt.Scale(type="log", domain=[low, high], nice=False)
    return alt.Y("perplexity:Q", title="perplexity (log scale)", scale=scale, axis=axis)


def occurrences(values: Sequence[float]) -> alt.X:
    """Return the axis of counts, just as far as `values` reach."""
    ticks = [factor * 10**power for power in range(9) for factor in (1, 2, 5)]
    axis = alt.Axis(values=ticks, format="~s", grid=False, labelOverlap="greedy")
    scale = alt.Scale(type="log", domain=[min(values) / 1.3, max(values) * 1.3], nice=False)
    return alt.X("count:Q", title="occurrences (log scale)", scale=scale, axis=axis)


def colours(projects: Sequence[Project], rows: Sequence[Row], *, symbol: str = "stroke") -> alt.Color:
    """Return the colours of the series of one project, or of several projects, with their legend."""
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
    """Return what is told of a point: whose it is, if there are several, and `more`."""
    name = [alt.Tooltip("name:N", title="experiment")] if len(projects) > 1 else []
    return [*name, *more]


def targets(base: alt.Chart) -> alt.Chart:
    """Return what cannot be seen but pointed at: a tooltip that asks for no steady hand."""
    points: alt.Chart = base.mark_point(filled=True, size=300, opacity=0)
    return points


def finished(layers: Sequence[alt.Chart], *, height: int = HEIGHT) -> Spec:
    """Return the specification of `layers`, one above the other, as wide as their place."""
    whole: Any = alt.layer(*layers)
    configured = (
        whole.properties(width="container", height=height, background="transparent", padding=4)
        .configure(font=FONT)
        .configure_view(stroke=None)
        .configure_axis(
            labelColor="var(--dim)", titleColor="var(--ink)", gridColor="var(--line)", domainColor="var(--edge)",
            tickColor="var(--edge)", labelFontSize=12, titleFontSize=12, titleFontWeight="normal",
        )
        .configure_legend(labelColor="var(--ink)", labelFontSize=12, symbolStrokeWidth=2, symbolSize=160)
        .configure_text(font=FONT, fontSize=12)
    )  # fmt: skip
    spec: Spec = configured.to_dict()
    return spec


def _present(rows: Sequence[Row]) -> list[tuple[str, str, list[int]]]:
    """Return name, colour and dashes of the series that `rows` have."""
    names = {row["series"] for row in rows}
    return [one for one in zip(SERIES, SERIES_COLOURS, SERIES_DASHES, strict=True) if one[0] in names]

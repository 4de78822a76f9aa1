"""What MLflow's page of runs shows: columns, order and charts, in the form in which that page saves a shared view.

MLflow reads a shared view from an experiment's tag if the page's address names it. The form is that of MLflow 3.17; an
unknown column or chart is ignored by the page.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from pipeline.tracking.records import metric_name

NAME = "charlm: best first"
PERPLEXITY = metric_name("evaluate", "perplexity")
COLUMNS = (
    PERPLEXITY,
    metric_name("evaluate", "baseline_perplexity"),
    metric_name("evaluate", "bits_per_char"),
    metric_name("train", "seconds"),
)
# Params that differ: more columns than these do not fit beside the figures at a width of 1400 pixels.
MAX_PARAMS = 6
# Groups in the order in which a reader asks what is different.
GROUPS = ("data", "clean", "split", "model", "train", "evaluate", "generate", "register", "validate")
CURVES = (
    metric_name("train", "eval_perplexity"),
    metric_name("train", "train_perplexity"),
)
# Widths in pixels: the name of a run says what differs, so it gets the space of a long one.
FIXED_WIDTHS = {"attributes.`Run Name`": 250, "runDateAndNestInfo": 140}
WIDTH_PER_CHARACTER, MARGIN = 6.5, 34
# What MLflow calls the group of charts of metrics without a slash, and the machine's load.
OTHER_SECTIONS = ("evaluate", "train", "generate", "sweep", "Model metrics", "System metrics")
FIRST_SECTION = "Compare"


def differing_params(runs: Iterable[Mapping[str, str]]) -> list[str]:
    """Return the params that do not have the same value in all `runs`, the most telling groups first."""
    values: dict[str, set[str | None]] = {}
    everything = list(runs)
    for key in dict.fromkeys(key for params in everything for key in params):
        values[key] = {params.get(key) for params in everything}
    differ = [key for key, found in values.items() if len(found) > 1]
    return sorted(differ, key=lambda key: _rank(key.partition(".")[0]))


def view_state(params: Collection[str], metrics: Collection[str]) -> str:
    """Return the view as text: the runs with the lowest perplexity first, the figures, and what differs."""
    figures = [_column("metrics", name) for name in COLUMNS if name in metrics or name == PERPLEXITY]
    first = [column for column in figures if column.endswith("perplexity`")]
    differ = [_column("params", key) for key in list(params)[:MAX_PARAMS]]
    # What differs comes right after the perplexities: at a width of 1400 pixels the last columns are out of sight.
    columns = [*first, *differ, *(column for column in figures if column not in first)]
    state = {
        "orderByKey": _column("metrics", PERPLEXITY),
        "orderByAsc": True,
        "selectedColumns": columns,
        "columnOrder": [*FIXED_WIDTHS, *columns],
        "columnWidths": FIXED_WIDTHS | {column: _width(column) for column in columns},
        "runsHiddenMode": "FIRST_20_RUNS",
        "hideEmptyCharts": True,
        "compareRunCharts": _charts(metrics),
        "compareRunSections": _sections(),
        "isAccordionReordered": True,
    }
    return json.dumps(state, sort_keys=True)


def _rank(group: str) -> int:
    return GROUPS.index(group) if group in GROUPS else len(GROUPS)


def _column(kind: str, name: str) -> str:
    return f"{kind}.`{name}`"


def _width(column: str) -> int:
    """Return the pixels in which a column's name is whole; the kind and the quotes are not shown."""
    name = column.partition(".")[2].strip("`")
    return MARGIN + round(WIDTH_PER_CHARACTER * len(name))


def _charts(metrics: Collection[str]) -> list[dict[str, Any]]:
    charts = [_chart("LINE", name, scaleType="log") for name in CURVES if name in metrics]
    charts += [_chart("BAR", name) for name in (PERPLEXITY, metric_name("train", "seconds")) if name in metrics]
    return charts


def _chart(kind: str, metric: str, **settings: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "uuid": f"charlm-{metric}",
        "metricSectionId": _section_id(FIRST_SECTION),
        "metricKey": metric,
        "displayName": metric.partition("/")[2].replace("_", " "),
        "deleted": False,
        "isGenerated": False,
        "runsCountToCompare": 20,
        # Of a line: the page's own settings for the x axis, and no smoothing.
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
        "lineSmoothness": 0,
        **settings,
    }


def _sections() -> list[dict[str, Any]]:
    """Return the groups of charts: ours is open, the others are closed."""
    return [
        {
            "uuid": _section_id(name),
            "name": name,
            "display": name == FIRST_SECTION,
            "isReordered": True,
            "deleted": False,
            "isGenerated": name != FIRST_SECTION,
        }
        for name in (FIRST_SECTION, *OTHER_SECTIONS)
    ]


def _section_id(name: str) -> str:
    return f"charlm-{name}"

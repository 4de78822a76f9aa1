"""The shared view of the experiment: MLflow's table of runs with the columns and charts that compare models."""

import base64
import json
import time
import zlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run

from pipeline.tracking.records import metric_name
from pipeline.tracking.view_link import KEY, note_experiment

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
FIXED_WIDTHS = {"attributes.`Run Name`": 250, "runDateAndNestInfo": 150}
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


TAG = f"mlflow.sharedViewState.{KEY}"
# The newest runs tell which params differ.
RUNS = 200
# MLflow makes a color from a run's id, and often the same one twice. These are Okabe and Ito's, for all eyes.
COLOR_TAG = "mlflow.runColor"
COLORS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#000000", "#f0e442")


def update_view(client: MlflowClient, experiment_id: str, uri: str) -> None:
    """Write the view into the experiment's tag, if it has changed, and note where it is; color the new runs."""
    runs = client.search_runs([experiment_id], max_results=RUNS)
    _color(client, runs)
    params = differing_params(run.data.params for run in runs if run.data.params)
    state = view_state(params, {name for run in runs for name in run.data.metrics})
    before = client.get_experiment(experiment_id).tags.get(TAG)
    if before is None or _state_of(before) != state:
        client.set_experiment_tag(experiment_id, TAG, _envelope(state))
    note_experiment(experiment_id, uri)


def _color(client: MlflowClient, runs: list[Run]) -> None:
    """Give the newest runs a color where they have none: the one that fewest of them have."""
    newest = runs[: len(COLORS)]
    used = [run.data.tags[COLOR_TAG] for run in newest if COLOR_TAG in run.data.tags]
    for run in reversed(newest):
        if COLOR_TAG not in run.data.tags:
            used.append(min(COLORS, key=used.count))
            client.set_tag(run.info.run_id, COLOR_TAG, used[-1])


def _envelope(state: str) -> str:
    """Return the tag's text: with a name, so that MLflow lists it among the saved views too."""
    now = int(time.time() * 1000)
    packed = base64.b64encode(zlib.compress(state.encode())).decode()
    return json.dumps({"name": NAME, "createdAt": now, "updatedAt": now, "state": f"deflate;{packed}"})


def _state_of(text: str) -> str | None:
    """Return the view in a tag's text, None if this module did not write it."""
    try:
        packed = json.loads(text)["state"].removeprefix("deflate;")
        return zlib.decompress(base64.b64decode(packed)).decode()
    except (ValueError, KeyError, TypeError, AttributeError, zlib.error):
        return None

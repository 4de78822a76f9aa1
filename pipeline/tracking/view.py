"""Makes what MLflow's pages show: each run's description, and the table of runs with columns and charts to compare.

The table is a shared view of the experiment, with an address of its own. Nothing here imports MLflow.
"""

import base64
import json
import textwrap
import time
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from pipeline.core.errors import without_secrets
from pipeline.core.files import read_json, write_json
from pipeline.evaluation.measurement import MEASUREMENT_ID
from pipeline.tracking.differences import differing
from pipeline.tracking.project import state_folder
from pipeline.tracking.records import metric_name
from pipeline.tracking.store import is_server, store_hash, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

NAME = "charlm: best first"
PERPLEXITY = metric_name("evaluate", "perplexity")
MEASUREMENT_TAG = f"evaluate.{MEASUREMENT_ID}"
COLUMNS = (
    PERPLEXITY,
    metric_name("evaluate", "baseline_perplexity"),
    metric_name("evaluate", "bits_per_char"),
    metric_name("train", "seconds"),
)
# More columns of params do not fit next to the figures at a width of 1400 pixels.
MAX_PARAMS = 6
CURVES = (
    metric_name("train", "eval_perplexity"),
    metric_name("train", "train_perplexity"),
)
# Widths in pixels. A run's name says what differs, so there is space for a long one.
FIXED_WIDTHS = {"attributes.`Run Name`": 250, "runDateAndNestInfo": 150}
WIDTH_PER_CHARACTER, MARGIN = 6.5, 34
# The last two are MLflow's names: for metrics without a slash, and for the machine's load.
OTHER_SECTIONS = ("evaluate", "train", "generate", "sweep", "Model metrics", "System metrics")
FIRST_SECTION = "Compare"
# The view's key in MLflow's tags and in its address.
KEY = "charlm"
TAG = f"mlflow.sharedViewState.{KEY}"
# The newest runs show which params differ.
MAX_RUNS = 200
# MLflow derives a run's color from its id, and often gives two runs the same. This is the palette of Okabe and Ito,
# which color-blind people can tell apart.
COLOR_TAG = "mlflow.runColor"
COLORS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#000000", "#f0e442")
# `mlflow ui` listens here.
LOCAL = "http://127.0.0.1:5000"
# This file in .charlm/ says which experiment of which store has the view.
VIEW_FILE = "view.json"
SAMPLE_CHARS = 400
# A longer line in the description pushes MLflow's box "About this run" off the page.
SAMPLE_WIDTH = 80


def view_state(params: Collection[str], metrics: Collection[str], *, measured_alike: bool = True) -> str:
    """Return the view as JSON: the lowest perplexity first, with columns for the figures and for params that differ.

    If the runs were not `measured_alike`, a column next to perplexity shows which ones can be compared.
    """
    figures = [_column("metrics", name) for name in COLUMNS if name in metrics or name == PERPLEXITY]
    first = [column for column in figures if column.endswith("perplexity`")]
    differ = [_column("params", key) for key in list(params)[:MAX_PARAMS]]
    # Params come right after the perplexities, since the last columns are not visible at a width of 1400 pixels.
    which = [] if measured_alike else [_column("tags", MEASUREMENT_TAG)]
    columns = [*first, *which, *differ, *(column for column in figures if column not in first)]
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


def _column(kind: str, name: str) -> str:
    return f"{kind}.`{name}`"


def _width(column: str) -> int:
    """Return the width in pixels that shows a column's whole name, which MLflow shows without kind and quotes."""
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
        # For lines: the page's own settings of the x axis, and no smoothing.
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
        "lineSmoothness": 0,
        **settings,
    }


def _sections() -> list[dict[str, Any]]:
    """Return the groups of charts, of which only the first is open."""
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


def update_view(client: "MlflowClient", experiment_id: str, uri: str) -> None:
    """Write the view into the experiment's tag if it has changed, save where it is, and color new runs."""
    runs = client.search_runs([experiment_id], max_results=MAX_RUNS)
    _color(client, runs)
    params = differing([run.data.params for run in runs if run.data.params])
    measurements = {run.data.tags.get(MEASUREMENT_TAG) for run in runs if PERPLEXITY in run.data.metrics}
    metrics = {name for run in runs for name in run.data.metrics}
    state = view_state(params, metrics, measured_alike=len(measurements) <= 1)
    before = client.get_experiment(experiment_id).tags.get(TAG)
    if before is None or _state_of(before) != state:
        client.set_experiment_tag(experiment_id, TAG, _envelope(state))
    note_experiment(experiment_id, uri)


def _color(client: "MlflowClient", runs: "list[Run]") -> None:
    """Give each of the newest runs that has no color the one that the fewest of them have."""
    newest = runs[: len(COLORS)]
    used = [run.data.tags[COLOR_TAG] for run in newest if COLOR_TAG in run.data.tags]
    for run in reversed(newest):
        if COLOR_TAG not in run.data.tags:
            used.append(min(COLORS, key=used.count))
            client.set_tag(run.info.run_id, COLOR_TAG, used[-1])


def _envelope(state: str) -> str:
    """Return the text of the tag. Its name lets MLflow list it among the saved views."""
    now = int(time.time() * 1000)
    packed = base64.b64encode(zlib.compress(state.encode())).decode()
    return json.dumps({"name": NAME, "createdAt": now, "updatedAt": now, "state": f"deflate;{packed}"})


def _state_of(text: str) -> str | None:
    """Return the view in the text of a tag, None if this module did not write it."""
    try:
        packed = json.loads(text)["state"].removeprefix("deflate;")
        return zlib.decompress(base64.b64decode(packed)).decode()
    except (ValueError, KeyError, TypeError, AttributeError, zlib.error):
        return None


def compare_link() -> str | None:
    """Return the address of the table of runs in MLflow's pages, the best run first; None if there is no run yet.

    It is the address of the server at MLFLOW_TRACKING_URI, or that of `mlflow ui` for a local store.
    """
    uri = tracking_uri()
    try:
        view = read_json(state_folder() / VIEW_FILE)
        if view["store"] != store_hash(uri):
            return None
        pages = without_secrets(uri).rstrip("/") if is_server(uri) else LOCAL
        # Without the second part MLflow opens its pages for GenAI, whatever the experiment is.
        query = urlencode({"viewStateShareKey": KEY, "workflowType": "machine_learning"})
        return f"{pages}/#/experiments/{view['experiment']}/runs?{query}"
    except (OSError, ValueError, KeyError, TypeError):
        return None


def note_experiment(experiment_id: str, uri: str) -> None:
    """Save, for `compare_link`, which experiment of the store at `uri` has the view."""
    write_json(state_folder() / VIEW_FILE, {"store": store_hash(uri), "experiment": experiment_id})


def run_description(folder: Path, *, stages: Collection[str], changed: str) -> str:
    """Return a run's description in Markdown: the figures, what changed, and a sample, from the files in `folder`.

    `stages` are those that the execution has done; the files of others may be an earlier execution's.
    """
    evaluate = _read(folder / "metrics/evaluate.json") if "evaluate" in stages else None
    train = _read(folder / "metrics/train.json") if "train" in stages else None
    samples = _read(folder / "samples/samples.json") if "generate" in stages else None
    figures = []
    if evaluate:
        figures += [
            f"**perplexity {evaluate['perplexity']:.3f}**",
            *_baseline(evaluate),
            f"{evaluate['bits_per_char']:.3f} bits per character",
            f"accuracy {evaluate['accuracy']:.1%} of {evaluate['num_chars']:,} characters",
        ]
    if train:
        figures += [f"{train['parameters']:,} parameters", f"{train['seconds']:.0f} s of training"]
    parts = [" · ".join(figures), f"Changed against its baseline: {_code(changed)}" if changed else ""]
    if samples:
        chosen = next((one for one in samples if one["mode"] == "sampled"), samples[0])
        text = f"{chosen['prompt']}{chosen['completion']}"[:SAMPLE_CHARS]
        parts += [f"A sample, temperature {chosen['temperature']}:", _fenced(_wrapped(text))]
    return "\n\n".join(part for part in parts if part)


def _baseline(evaluate: dict[str, Any]) -> list[str]:
    found = evaluate.get("baseline_perplexity")
    return [] if found is None else [f"n-gram baseline {found:.3f} ({evaluate['baseline']})"]


def _code(text: str) -> str:
    return f"`{text.replace('`', '')}`"


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.fill(line, SAMPLE_WIDTH) for line in text.split("\n"))


def _fenced(text: str) -> str:
    longest = max((len(run) for run in text.split() if set(run) == {"`"}), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def _read(path: Path) -> Any:
    try:
        return read_json(path)
    except (OSError, ValueError):
        return None

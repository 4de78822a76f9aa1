"""The shared view of the experiment: MLflow's table of runs with the columns and charts that compare models."""

import base64
import json
import time
import zlib

from mlflow import MlflowClient
from mlflow.entities import Run

from pipeline.tracking.view_link import KEY, note_experiment
from pipeline.tracking.view_state import NAME, differing_params, view_state

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

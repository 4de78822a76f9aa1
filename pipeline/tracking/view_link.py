"""The address of the page that compares the runs, from a note that publishing leaves. Nothing here imports MLflow."""

from urllib.parse import urlencode, urlsplit, urlunsplit

from pipeline.core.files import read_json, write_json
from pipeline.tracking.project import state_folder
from pipeline.tracking.settings import tracking_uri
from pipeline.tracking.unsent_runs import store_hash

KEY = "charlm"
# Where `mlflow ui` listens.
LOCAL = "http://127.0.0.1:5000"
NOTE = "view.json"


def compare_link() -> str | None:
    """Return the address of the table of runs in MLflow's pages, the best run first; None if there is no run yet.

    Of a local store, `mlflow ui` must run; with MLFLOW_TRACKING_URI it is the server's address.
    """
    uri = tracking_uri()
    try:
        note = read_json(state_folder() / NOTE)
        if note["store"] != store_hash(uri):
            return None
        # Without the second part MLflow opens its pages for GenAI, whatever the experiment is.
        query = urlencode({"viewStateShareKey": KEY, "workflowType": "machine_learning"})
        return f"{_pages(uri)}/#/experiments/{note['experiment']}/runs?{query}"
    except (OSError, ValueError, KeyError, TypeError):
        return None


def note_experiment(experiment_id: str, uri: str) -> None:
    """Write down, for `compare_link`, which experiment of the store at `uri` has the view."""
    write_json(state_folder() / NOTE, {"store": store_hash(uri), "experiment": experiment_id})


def _pages(uri: str) -> str:
    if not uri.startswith(("http://", "https://")):
        return LOCAL
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")  # without a password

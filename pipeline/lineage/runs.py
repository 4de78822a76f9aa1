"""Reading all runs of an experiment."""

from mlflow import MlflowClient
from mlflow.entities import Run, ViewType


def all_runs(client: MlflowClient, experiment_id: str, view: int = ViewType.ACTIVE_ONLY) -> list[Run]:
    """Return every run of the experiment, the newest first; `view` chooses the active or the deleted ones."""
    found: list[Run] = []
    token: str | None = None
    while True:
        page = client.search_runs([experiment_id], run_view_type=view, page_token=token)
        found += page
        token = page.token
        if not token:
            return found

"""Reading all runs of an experiment."""

from mlflow import MlflowClient
from mlflow.entities import Run


def all_runs(client: MlflowClient, experiment_id: str) -> list[Run]:
    """Return every active run of the experiment, the newest first."""
    found: list[Run] = []
    token: str | None = None
    while True:
        page = client.search_runs([experiment_id], page_token=token)
        found += page
        token = page.token
        if not token:
            return found

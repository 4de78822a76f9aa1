"""The tracking store: where it is, whether it answers, and opening it without damage.

This module and those that import it are the only ones that load MLflow (3 to 4 seconds), so stages import them late.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import mlflow
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from pipeline.tracking.project import project_root, state_folder
from pipeline.tracking.server import check_server

EXPERIMENT = "charlm"
# The UI opens such an experiment with its training runs, not with traces and judges.
KIND = {"mlflow.experimentKind": "custom_model_development"}

# Migrations of a fresh database and hints to developers are not for who trains a model.
logging.getLogger("mlflow").setLevel(logging.WARNING)
logging.getLogger("alembic").setLevel(logging.WARNING)


def tracking_uri() -> str:
    """Return MLFLOW_TRACKING_URI, by default the SQLite file mlflow.db in the project's root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{project_root()}/mlflow.db"


@contextmanager
def open_store() -> Iterator[tuple[MlflowClient, str]]:
    """Give a client and the id of the experiment `charlm`, made when it is missing.

    A local store is held under a file lock meanwhile: two processes that create a fresh mlflow.db at once damage it.
    UserError at once if a remote one does not answer, rather than after MLflow's own minutes.
    """
    check_server()
    uri = tracking_uri()
    is_remote = uri.startswith(("http://", "https://"))
    state_folder().mkdir(parents=True, exist_ok=True)
    with nullcontext() if is_remote else FileLock(state_folder() / "mlflow.lock"):
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(os.environ.get("MLFLOW_REGISTRY_URI") or uri)
        client = MlflowClient()
        # A server keeps artifacts where it is told to; a local database beside the project keeps them in mlruns/.
        yield client, _experiment(client, None if is_remote else (project_root() / "mlruns").as_uri())


def _experiment(client: MlflowClient, place: str | None) -> str:
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is None:
        try:
            return str(client.create_experiment(EXPERIMENT, place, tags=KIND))
        except MlflowException:  # on a server that several people use, someone else may have been faster
            found = client.get_experiment_by_name(EXPERIMENT)
            if found is None:
                raise
    return str(found.experiment_id)

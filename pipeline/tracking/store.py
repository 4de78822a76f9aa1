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

from pipeline.tracking.project import project_root, state_folder

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
    """
    uri = tracking_uri()
    is_remote = uri.startswith(("http://", "https://"))
    state_folder().mkdir(exist_ok=True)
    with nullcontext() if is_remote else FileLock(state_folder() / "mlflow.lock"):
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(os.environ.get("MLFLOW_REGISTRY_URI") or uri)
        client = MlflowClient()
        found = client.get_experiment_by_name(EXPERIMENT)
        # A server keeps artifacts where it is told to; a local database beside the project keeps them in mlruns/.
        place = None if is_remote else (project_root() / "mlruns").as_uri()
        yield client, found.experiment_id if found else client.create_experiment(EXPERIMENT, place, tags=KIND)

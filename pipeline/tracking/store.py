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
from pipeline.tracking.settings import check_server, tracking_uri

EXPERIMENT = "charlm"
# MLflow shows such an experiment as "Machine learning": training runs, without traces and judges.
KIND_TAG, KIND = "mlflow.experimentKind", "custom_model_development"

# Migrations of a fresh database and hints to developers are not for people who train a model.
logging.getLogger("mlflow").setLevel(logging.WARNING)
logging.getLogger("alembic").setLevel(logging.WARNING)


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
        # A server decides where artifacts go; a local database uses mlruns/ in the project.
        yield client, _experiment(client, None if is_remote else (project_root() / "mlruns").as_uri())


def _experiment(client: MlflowClient, place: str | None) -> str:
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is None:
        try:
            return str(client.create_experiment(EXPERIMENT, place, tags={KIND_TAG: KIND}))
        except MlflowException:  # on a server that several people use, someone else may have been faster
            found = client.get_experiment_by_name(EXPERIMENT)
            if found is None:
                raise
    # An experiment of an earlier release has no kind; MLflow's pages may have guessed one.
    kind = found.tags.get(KIND_TAG, "")
    if not kind or (kind.endswith("_inferred") and kind != f"{KIND}_inferred"):
        client.set_experiment_tag(found.experiment_id, KIND_TAG, KIND)
    return str(found.experiment_id)

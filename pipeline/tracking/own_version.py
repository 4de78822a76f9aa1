"""The registered version that is the model in this project, and the address under which it can be served."""

from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from pipeline.files import read_json
from pipeline.tracking.registry import CHAMPION, WEIGHTS_TAG, versions
from pipeline.tracking.store import open_store

REGISTRATION = Path("models/registration.json")


def own_version(client: MlflowClient, name: str, weights_sha256: str) -> ModelVersion | None:
    """Return the version of `name` that has these weights: the champion if it has them, or else the newest."""
    same = [one for one in versions(client, name) if one.tags.get(WEIGHTS_TAG) == weights_sha256]
    champions = [one for one in same if CHAMPION in one.aliases]
    return (champions or same or [None])[0]


def address_of_model(root: Path) -> str | None:
    """Return the address of the model that the last run in `root` made, for MLflow and charlm.

    It is `models:/NAME@champion` if this model is the champion, else `models:/NAME/VERSION`. None if it is not
    registered (`register.enabled: false`, or MLflow did not answer then). What MLflow raises, this raises too.
    """
    registration = read_json(root / REGISTRATION)
    name = registration["model_name"]
    if name is None:
        return None
    with open_store() as (client, _):
        found = own_version(client, name, registration["weights_sha256"])
    if found is None:
        return None
    return f"models:/{name}@{CHAMPION}" if CHAMPION in found.aliases else f"models:/{name}/{found.version}"

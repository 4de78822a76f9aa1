"""Finds and downloads a registered model by its address."""

from pathlib import Path

from pipeline.core.errors import UserError, one_line

REGISTRY = "models:/"


def from_registry(address: str, *, option: str = "--model") -> tuple[Path, str]:
    """Return the folder of the model at `models:/…`, and its version number; UserError if there is none.

    `option` is the option or params key that the address comes from; errors begin with it.
    """
    from mlflow.artifacts import download_artifacts  # 3 seconds: not for a folder
    from mlflow.exceptions import MlflowException

    from pipeline.tracking.store import open_store

    name, _, alias = address.removeprefix(REGISTRY).partition("@")
    name, _, number = name.partition("/")
    if not name or not (alias or number):
        raise UserError(f"{option}: found {address}, allowed is a folder, models:/NAME@ALIAS or models:/NAME/VERSION")
    try:
        with open_store() as (client, _):
            found = client.get_model_version_by_alias(name, alias) if alias else client.get_model_version(name, number)
            version = str(found.version)
            folder = Path(download_artifacts(f"{REGISTRY}{name}/{version}"))
    except MlflowException as error:
        raise UserError(f"{option}: {address}: {one_line(error.message)}") from None
    except OSError as error:  # the model's files: a store that is unreachable, a folder that was removed
        raise UserError(f"{option}: {address}: {one_line(error)}") from None
    for place in ("artifacts/charlm", "artifacts/model"):
        if (folder / place).is_dir():
            return folder / place, version
    raise UserError(f"{option}: {address}: not a model that charlm registered")

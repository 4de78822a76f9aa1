"""Where the server's model comes from: a folder, or MLflow's registry."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.files import read_json
from pipeline.generation.text import Writer
from pipeline.model.saved import SavedModel
from pipeline.params.generate import Precision
from pipeline.serving.card import CARD, card_of, project_card
from pipeline.tracking.project import project_root

REGISTRY = "models:/"


@dataclass(frozen=True)
class Served:
    """A model that is ready to write, and its card."""

    writer: Writer
    card: dict[str, Any]


def load_served(address: str, *, precision: Precision = "fp32") -> Served:
    """Return the model at `address`, a folder or `models:/NAME@ALIAS` (or /VERSION), ready; UserError if it is none.

    The card is the one that was registered with the model, or made of the project's figures if `address` is the
    project's own model.
    """
    folder, version = from_registry(address) if address.startswith(REGISTRY) else (Path(address), None)
    model = SavedModel.load(folder)
    writer = Writer(model, precision=precision)
    writer.warm_up()
    return Served(writer, _card(model, folder) | {"version": version})


def _card(model: SavedModel, folder: Path) -> dict[str, Any]:
    try:
        if (folder.parent / CARD).exists():
            return card_of(model) | dict(read_json(folder.parent / CARD))
        if folder.resolve() == project_root() / "models/charlm":
            return project_card(model, project_root())
    except (OSError, ValueError, KeyError):
        pass  # a model without figures is served too
    return card_of(model)


def from_registry(address: str) -> tuple[Path, str]:
    """Return the folder of the model at `models:/…`, and its version's number; UserError if there is none."""
    from mlflow.artifacts import download_artifacts  # 3 seconds: not for a folder
    from mlflow.exceptions import MlflowException

    from pipeline.tracking.store import open_store

    name, _, alias = address.removeprefix(REGISTRY).partition("@")
    name, _, number = name.partition("/")
    if not name or not (alias or number):
        raise UserError(f"--model: found {address}, allowed is a folder, models:/NAME@ALIAS or models:/NAME/VERSION")
    try:
        with open_store() as (client, _):
            found = client.get_model_version_by_alias(name, alias) if alias else client.get_model_version(name, number)
            version = str(found.version)
            folder = Path(download_artifacts(f"{REGISTRY}{name}/{version}"))
    except MlflowException as error:
        raise UserError(f"--model: {address}: {' '.join(str(error.message).split())}") from None
    for place in ("artifacts/charlm", "artifacts/model"):
        if (folder / place).is_dir():
            return folder / place, version
    raise UserError(f"--model: {address}: not a model that charlm registered")

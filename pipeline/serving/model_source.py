"""Finds the model at an address (folder or registry), loads it, and makes its card: its description as JSON."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError
from pipeline.core.files import read_json, sha256_of
from pipeline.generation.text import Writer
from pipeline.model.saved import NO_MODEL_YET, OWN_MODEL, WEIGHTS, SavedModel
from pipeline.params.reader import PARAMS_FILE, read_yaml
from pipeline.params.sampling import Precision
from pipeline.tracking.project import project_root
from pipeline.tracking.store import REGISTRY, from_registry

CARD = "card.json"
# Points of the training curve in a card: enough for a chart.
MOST_POINTS = 200


def card_of(model: SavedModel) -> dict[str, Any]:
    """Return the card as far as the model alone has it; `ends`: whether its texts may end by themselves."""
    config = model.config
    layers = "1 layer" if config.num_layers == 1 else f"{config.num_layers} layers"
    return {
        "name": "charlm",
        "version": None,
        "network": f"{config.cell.upper()}, {layers} of {config.num_hidden}",
        "parameters": sum(weight.size for weight in model.weights.values()),
        "characters": "".join(model.dictionary.characters),
        "ends": model.dictionary.bounded,
        "ngram_order": config.ngram_order,
        "perplexity": None,
        "baseline_perplexity": None,
        "baseline": None,
        "bits_per_char": None,
        "corpus": None,
        "train_chars": None,
        "eval_chars": None,
        "curve": [],
    }


def project_card(model: SavedModel, project: Path) -> dict[str, Any]:
    """Return the card of the last run's model in `project`; OSError if its metrics are missing."""
    figures = read_json(project / "metrics/evaluate.json")
    baseline = figures.get("baseline_perplexity")  # none if the model is older, or evaluate.baseline_order is 0
    data = read_json(project / "metrics/split.json")
    with (project / "plots/train.csv").open(encoding="utf-8", newline="") as file:
        points = list(csv.DictReader(file))
    every = -(-len(points) // MOST_POINTS)
    names = ("step", "seconds", "train_perplexity", "eval_perplexity")
    return card_of(model) | {
        "perplexity": round(figures["perplexity"], 4),
        **({"baseline_perplexity": round(baseline, 4), "baseline": figures["baseline"]} if baseline else {}),
        "bits_per_char": round(figures["bits_per_char"], 4),
        "corpus": Path(str(read_yaml(project / PARAMS_FILE)["data"]["source"])).name,
        "train_chars": data["train_chars"],
        "eval_chars": data["eval_chars"],
        "curve": [
            {name: float(row[name]) if row[name] else None for name in names}
            for row in points[::-1][:: every or 1][::-1]
        ],
    }


@dataclass(frozen=True)
class Served:
    """A loaded model and its card."""

    writer: Writer
    card: dict[str, Any]


@dataclass(frozen=True)
class Located:
    """A model's folder, its name (the registry's, or the folder's), its version there, and its perplexity if known."""

    folder: Path
    name: str
    version: str | None = None
    perplexity: float | None = None


def locate(address: str) -> Located:
    """Return where the model at `address` is: a folder, `models:/NAME@ALIAS` or `models:/NAME/VERSION`.

    UserError if there is none; for the project's own model it names the command that makes it.
    """
    if address.startswith(REGISTRY):
        folder, version = from_registry(address)
        name = re.split("[@/]", address.removeprefix(REGISTRY))[0]
        return Located(folder, name, version, _registered_perplexity(folder))
    folder = Path(address)
    if not (folder / WEIGHTS).exists():
        raise UserError(_missing(address))
    return Located(folder, folder.resolve().name, None, _own_perplexity(folder))


def load_served(address: str, *, precision: Precision = "fp32") -> Served:
    """Load the model at `address` (see `locate`), and compile its kernels or load them from the cache.

    The card is the one registered with the model; for the project's own model it is made from its metrics. Its name is
    what clients see as the model's id.
    """
    found = locate(address)
    model = SavedModel.load(found.folder)
    writer = Writer(model, precision=precision)
    writer.warm_up()
    return Served(writer, card_at(found, model))


def card_at(found: Located, model: SavedModel) -> dict[str, Any]:
    """Return the card of `model`, which is at `found`."""
    return _card(model, found.folder) | {"name": found.name, "version": found.version}


def _card(model: SavedModel, folder: Path) -> dict[str, Any]:
    try:
        if (folder.parent / CARD).exists():
            return card_of(model) | dict(read_json(folder.parent / CARD))
        if folder.resolve() == project_root() / OWN_MODEL:
            return project_card(model, project_root())
    except (OSError, ValueError, KeyError):
        pass  # a model without metrics can be served too
    return card_of(model)


def _missing(address: str) -> str:
    if Path(address) == Path(OWN_MODEL):
        return f"{address}: {NO_MODEL_YET}, or name a model: --model models:/NAME@champion"
    return f"--model: {address}: no model there; allowed is a folder, models:/NAME@ALIAS or models:/NAME/VERSION"


def _own_perplexity(folder: Path) -> float | None:
    """Return the perplexity of the last run's model; None if `folder` holds another one."""
    try:
        registration = read_json(folder.parent / "registration.json")
        is_same = registration["weights_sha256"] == sha256_of(folder / WEIGHTS)
        return float(registration["perplexity"]) if is_same else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _registered_perplexity(folder: Path) -> float | None:
    try:
        return float(read_json(folder.parent / CARD)["perplexity"])
    except (OSError, ValueError, KeyError, TypeError):
        return None

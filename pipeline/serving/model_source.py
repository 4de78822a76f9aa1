"""Finds the model at an address (folder or registry), loads it, and makes its card: its description as JSON."""

import ctypes
import os
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from pipeline.core.errors import UserError
from pipeline.core.files import CURVE, read_checked, sha256_of
from pipeline.evaluation.measurement import MEASUREMENT, MEASUREMENT_ID, measurement_id, record_in
from pipeline.generation.text import Writer
from pipeline.model.saved import NO_MODEL_YET, OWN_MODEL, SavedModel, weights_path
from pipeline.params.reader import PARAMS_FILE, flatten, read_group, read_yaml
from pipeline.params.sampling import Precision
from pipeline.params.text import DataParams, source_name
from pipeline.serving.pieces import ReadPrompts
from pipeline.tracking.project import project_root
from pipeline.tracking.records import Count, EvaluateFigures, Number, Registration, SplitFigures
from pipeline.tracking.store import REGISTRY
from pipeline.training.curve import read_curve

CARD = "card.json"
# Points of the training curve in a card: enough for a chart.
MOST_POINTS = 200
# The groups of params that decide what a model is like.
SHAPING = ("clean", "split", "model", "train")


class Card(TypedDict, total=False):
    """What a registered model's card.json may say; a model's own facts (see `card_of`) are not read from it."""

    perplexity: Number | None
    baseline_perplexity: Number | None
    baseline: str | None
    bits_per_char: Number | None
    corpus: str | None
    train_chars: Count | None
    eval_chars: Count | None
    eval_sha256: str | None
    params: dict[str, Any]
    curve: list[dict[str, Number | None]]


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
        MEASUREMENT: None,
        MEASUREMENT_ID: None,
        "bits_per_char": None,
        "corpus": None,
        "train_chars": None,
        "eval_chars": None,
        "eval_sha256": None,
        "params": {},
        "curve": [],
    }


def project_card(model: SavedModel, project: Path) -> dict[str, Any]:
    """Return the card of the last run's model in `project`; UserError if its metrics are missing or damaged."""
    figures = read_checked(project / "metrics/evaluate.json", EvaluateFigures)
    baseline = figures.get("baseline_perplexity")  # none if the model is older, or evaluate.baseline_order is 0
    data = read_checked(project / "metrics/split.json", SplitFigures)
    source = read_group("data", DataParams, project / PARAMS_FILE).source
    params = read_yaml(project / PARAMS_FILE)
    return card_of(model) | {
        "perplexity": round(figures["perplexity"], 4),
        **({"baseline_perplexity": round(baseline, 4), "baseline": figures["baseline"]} if baseline else {}),
        "bits_per_char": round(figures["bits_per_char"], 4),
        MEASUREMENT: record_in(figures),
        MEASUREMENT_ID: measurement_id(record_in(figures)) or None,
        "corpus": source_name(source),
        "train_chars": data["train_chars"],
        "eval_chars": data["eval_chars"],
        "eval_sha256": figures.get("eval_sha256"),
        "params": flatten({group: params[group] for group in SHAPING if group in params}),
        "curve": _curve(project / CURVE),
    }


def _curve(path: Path) -> list[dict[str, float | None]]:
    """Return at most MOST_POINTS points of the training curve in `path`, the last one included."""
    points = read_curve(path, "step", "seconds", "train_perplexity", "eval_perplexity")
    every = -(-len(points) // MOST_POINTS)
    return points[::-1][:: every or 1][::-1]


@dataclass(frozen=True)
class Served:
    """A loaded model, its card, and the prompts that it has read."""

    writer: Writer
    card: dict[str, Any]
    read_before: ReadPrompts = field(default_factory=ReadPrompts, compare=False)


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
        from pipeline.tracking.registry import from_registry  # loads MLflow

        folder, version = from_registry(address)
        name = re.split("[@/]", address.removeprefix(REGISTRY))[0]
        return Located(folder, name, version, _card_perplexity(folder))
    folder = Path(address)
    if not weights_path(folder).exists():
        raise UserError(_missing(address))
    return Located(folder, folder.resolve().name, None, _own_perplexity(folder) or _card_perplexity(folder))


def load_served(address: str, *, precision: Precision = "fp32", threads: int = 1) -> Served:
    """Load the model at `address` (see `locate`), and compile its kernels or load them from the cache.

    `threads` generate each batch of texts.
    The card is the one registered with the model; for the project's own model it is made from its metrics. Its name is
    what clients see as the model's id.
    """
    found = locate(address)
    model = SavedModel.load(found.folder)
    writer = Writer(model, threads=threads, precision=precision)
    writer.warm_up()
    return Served(writer, card_at(found, model))


def return_memory() -> None:
    """Give the system back what loading a model needed only meanwhile: 25 MB for a million characters of n-grams."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim:  # glibc's; it retains freed memory otherwise
        trim(0)


def card_at(found: Located, model: SavedModel) -> dict[str, Any]:
    """Return the card of `model`, which is at `found`."""
    return _card(model, found.folder) | {"name": found.name, "version": found.version}


def _card(model: SavedModel, folder: Path) -> dict[str, Any]:
    with suppress(UserError):  # a model without metrics can be served too
        if path := _card_file(folder):
            own = card_of(model)
            return own | {key: value for key, value in read_checked(path, Card).items() if key in own}
        if folder.resolve() == project_root() / OWN_MODEL:
            return project_card(model, project_root())
    return card_of(model)


def _card_file(folder: Path) -> Path | None:
    """Return the card next to a registered model, or inside an exported one; None if there is none."""
    return next((path for path in (folder.parent / CARD, folder / CARD) if path.is_file()), None)


def _missing(address: str) -> str:
    if Path(address) == Path(OWN_MODEL):
        return f"{address}: {NO_MODEL_YET}, or name a model: --model models:/NAME@champion"
    return f"--model: {address}: no model there; allowed is a folder, models:/NAME@ALIAS or models:/NAME/VERSION"


def _own_perplexity(folder: Path) -> float | None:
    """Return the perplexity of the last run's model; None if `folder` holds another one."""
    try:
        registration = read_checked(folder.parent / "registration.json", Registration)
        is_same = registration["weights_sha256"] == sha256_of(weights_path(folder))
        return registration.get("perplexity") if is_same else None
    except (OSError, UserError):
        return None


def _card_perplexity(folder: Path) -> float | None:
    path = _card_file(folder)
    try:
        return read_checked(path, Card).get("perplexity") if path else None
    except UserError:
        return None

"""A model's card: what a person wants to know of it, as JSON beside the model. Plain files in, plain data out."""

import csv
from pathlib import Path
from typing import Any

from pipeline.files import read_json
from pipeline.model.saved import SavedModel
from pipeline.params.reader import PARAMS_FILE, read_yaml

CARD = "card.json"
# Points of the curve that a card keeps: a chart needs no more.
MOST_POINTS = 200


def card_of(model: SavedModel) -> dict[str, Any]:
    """Return what the model's folder alone tells; `ends` is whether its texts end by themselves."""
    config = model.config
    layers = "1 layer" if config.num_layers == 1 else f"{config.num_layers} layers"
    return {
        "name": "charlm",
        "version": None,
        "network": f"{config.cell.upper()}, {layers} of {config.num_hidden}",
        "parameters": sum(weight.size for weight in model.weights.values()),
        "characters": "".join(model.dictionary.characters),
        "ends": model.dictionary.bounded,
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
    """Return the card of the model that the pipeline in `project` has made; OSError if its figures are not there."""
    figures = read_json(project / "metrics/evaluate.json")
    baseline = figures.get("baseline_perplexity")  # the model may be older than it, or evaluate.baseline_order 0
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

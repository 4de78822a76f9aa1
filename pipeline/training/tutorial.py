"""The published tutorial's own curve, to set beside a training with its recipe.

Eval perplexity after each of the five rounds (epochs) on a CPU: MXNet's "Language Model on CPU", 2 layers of 96.
"""

import csv
from pathlib import Path

from pipeline.files import whole_file
from pipeline.params.model import ModelParams
from pipeline.params.train import TrainParams

EVAL_PERPLEXITY = {1: 4.92, 2: 4.30, 3: 4.07, 4: 3.98, 5: 3.90}


def is_tutorial(model: ModelParams, train: TrainParams) -> bool:
    """Return whether a training has the tutorial's network, optimiser and batches."""
    network = (model.cell, model.num_layers, model.num_hidden, model.num_embed)
    return (
        network == ("lstm", 2, 96, 64)
        and (train.optimizer.name, train.batch_size, train.loss) == ("adadelta", 32, "window_sum")
        and not train.shift_windows
    )


def write_tutorial(path: Path, *, compare: bool) -> None:
    """Write the tutorial's points as CSV, none if they are not to be compared with."""
    with whole_file(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["epoch", "tutorial_eval_perplexity"])
        rows.writerows(EVAL_PERPLEXITY.items() if compare else [])

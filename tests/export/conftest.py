"""A model that was exported as a folder for a hub."""

import pytest
from support.models import random_model

from pipeline.export.hub_folder import write_hub_folder
from pipeline.serving.model_source import card_of

FIGURES = {
    "name": "charlm-book",
    "perplexity": 3.5936,
    "baseline_perplexity": 3.7,
    "baseline": "Kneser-Ney order 9",
    "bits_per_char": 1.845,
    "corpus": "book.txt",
    "train_chars": 9000,
    "eval_chars": 1000,
    "eval_sha256": "b" * 64,
    "params": {"model.num_hidden": 12},
    "curve": [
        {"step": float(step), "seconds": step / 2, "train_perplexity": 9.0, "eval_perplexity": 8.0 - step}
        for step in range(1, 4)
    ],
}


@pytest.fixture
def model():
    return random_model(characters="abcdefgh `|\n")


@pytest.fixture
def exported(tmp_path, model):
    model.save(tmp_path / "own")
    target = tmp_path / "charlm-book"
    samples = [("temperature 0.8", "a text\nwith ``` in it")]
    write_hub_folder(model, target, card=card_of(model) | FIGURES, samples=samples, licence="mit")
    return target

"""docs/from-the-tutorial.md: its figures match the code, its settings the preset."""

import re
from pathlib import Path

import pytest

from pipeline.params.reader import flatten, read_yaml
from pipeline.training.curve import TUTORIAL_PERPLEXITY

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/from-the-tutorial.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| ")]
PRESET = flatten(read_yaml(ROOT / "presets/tutorial.yaml"))
PARAMS = flatten(read_yaml(ROOT / "params.yaml"))


def settings():
    """Yield key and value of each row of the table that names a key of params.yaml."""
    for row in ROWS:
        key = re.search(r"`([a-z]+\.[a-z_.]+)`", row[1]) if len(row) == 3 else None
        if key and key[1] in PARAMS:
            yield key[1], row[2]


def test_the_tutorials_figures_match_the_code():
    epochs = {int(row[0]): row for row in ROWS if len(row) == 5 and row[0].isdigit()}
    assert {epoch: float(row[3]) for epoch, row in epochs.items()} == TUTORIAL_PERPLEXITY
    for row in epochs.values():
        ours, theirs = float(row[4]), float(row[3])
        assert ours == pytest.approx(theirs, rel=0.03)


def test_the_settings_match_the_preset():
    found = dict(settings())
    assert len(found) > 20
    for key, value in found.items():
        if value.startswith("not in the preset"):
            assert key not in PRESET
        elif key != "data.source":
            assert str(PRESET[key]) == str(read(value)), key


def test_no_setting_of_the_network_or_the_optimiser_is_missing():
    named = {key for key, _ in settings()}
    neutral = {"train.shift_windows", "train.optimizer.lr", "train.optimizer.beta2", "train.schedule.warmup"}
    missing = {key for key in PRESET if key.startswith(("model.", "train.", "split."))} - named
    assert missing <= neutral


def read(cell):
    from ruamel.yaml import YAML

    return YAML(typ="safe").load(cell.strip("`"))

"""Commands, presets, params keys, links and make targets in the README and in docs/ exist."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from pipeline.cli.app import app
from pipeline.cli.experiments import list_presets, list_sweeps
from pipeline.params.reader import flatten, read_yaml
from pipeline.sweeping.definition import load_sweep

# The docs show on purpose what happens with this key.
MISSPELT = {"model.num_hiden"}
ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture(params=PAGES, ids=lambda path: path.name)
def page(request):
    return request.param.read_text()


def test_every_charlm_command_exists(page):
    commands = get_command(app).commands
    assert set(re.findall(r"`[^`\n]*?\bcharlm ([a-z]+)", page)) <= set(commands)


def test_every_preset_exists(page):
    assert set(re.findall(r"charlm preset ([a-z]+)", page)) <= {preset.name for preset in list_presets()}


def test_every_sweep_exists(page):
    assert set(re.findall(r"charlm sweep ([a-z]+)(?![a-z.])", page)) <= {sweep.name for sweep in list_sweeps()}


def test_every_documented_sweep_is_valid(page, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    for number, text in enumerate(re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)):
        (tmp_path / f"{number}.yaml").write_text(text)
        load_sweep(tmp_path / f"{number}.yaml", [], None)


def test_every_params_key_exists(page):
    keys = set(flatten(read_yaml(ROOT / "params.yaml")))
    assert set(re.findall(r"-S '?([a-z_.]+)=", page)) <= keys | MISSPELT
    groups = "|".join({key.partition(".")[0] for key in keys})
    named = set(re.findall(rf"`((?:{groups})\.[a-z_.]+)[`:=]", page))
    named = {name for name in named if not name.endswith(".safetensors")}
    unknown = {name for name in named if name not in keys and not any(key.startswith(f"{name}.") for key in keys)}
    assert unknown <= MISSPELT


def test_every_link_has_a_target(page):
    for target in re.findall(r"\]\(((?!https?:)[^)#]+)\)", page):
        assert (ROOT / target).exists() or (ROOT / "docs" / target).exists(), target


def test_every_make_target_exists(page):
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`(?:[^`]*&& )?make ([a-z-]+)`", page):
        assert f"\n{target}:" in makefile, target

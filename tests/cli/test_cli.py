import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import random_model
from ruamel.yaml import YAML

from pipeline.cli.presets import FOLDER, apply_preset, list_presets, read_preset
from pipeline.params.groups import GROUPS
from pipeline.params.reader import flatten, read_groups, read_yaml

ROOT = Path(__file__).parents[2]
NAMES = [preset.name for preset in list_presets()]


def charlm(*arguments, cwd=ROOT):
    return subprocess.run(
        [sys.executable, "-m", "pipeline.cli.app", *arguments], cwd=cwd, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    random_model().save(folder / "models/charlm")
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_gives_valid_params_with_the_keys_of_the_file(name, tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text())
    apply_preset(read_preset(name), path)
    read_groups(GROUPS, path)
    assert set(flatten(read_yaml(path))) == set(flatten(read_yaml(ROOT / "params.yaml")))
    for key, value in flatten(read_preset(name).params).items():
        assert flatten(read_yaml(path))[key] == value


@pytest.mark.parametrize("name", NAMES)
def test_a_presets_options_survive_the_shell(name):
    options = shlex.split(charlm("preset", name).stdout)
    assert options == list(read_preset(name).options())
    assert options == charlm("preset", name).stdout.split()
    values = {
        key: YAML(typ="safe", pure=True).load(value) for key, _, value in (o.partition("=") for o in options[1::2])
    }
    assert values == flatten(read_preset(name).params)


def test_applying_a_preset_keeps_the_comments(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text())
    apply_preset(read_preset("tutorial"), path)
    assert "# Every knob of the pipeline" in path.read_text()


def test_presets_are_listed_and_an_unknown_one_is_told():
    listed = charlm("preset").stdout
    assert all(path.stem in listed for path in FOLDER.glob("*.yaml"))
    unknown = charlm("preset", "tutorail")
    assert unknown.returncode == 2
    assert unknown.stderr.startswith("error: preset: found 'tutorail', allowed are ")


def test_generate_writes_the_same_text_for_the_same_seed(folder):
    first = charlm("generate", "abc", "--num-chars", "30", "--seed", "5", cwd=folder)
    assert first.returncode == 0
    assert first.stdout.startswith("abc")
    assert first.stdout == charlm("generate", "abc", "--num-chars", "30", "--seed", "5", cwd=folder).stdout
    greedy = charlm("generate", "abc", "--num-chars", "30", "--greedy", cwd=folder).stdout
    assert greedy == charlm("generate", "abc", "--num-chars", "30", "--temperature", "0", cwd=folder).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x", "--temperature", "-1"], "error: temperature: found -1.0, allowed is 0 to 100\n"),
        (["x", "--num-chars", "-1"], "error: max_new_chars: found -1, allowed is 0 to 100000\n"),
        (["x", "--model", "gone"], "error: gone/dictionary.json: no such file; run the split stage first\n"),
    ],
)
def test_wrong_options_are_one_line(folder, arguments, message):
    done = charlm("generate", *arguments, cwd=folder)
    assert (done.returncode, done.stderr, done.stdout) == (2, message, "")


def test_help_loads_nothing_heavy():
    heavy = ("torch", "mlflow", "pandas", "numpy")
    code = f"import sys, pipeline.cli.app; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_a_summary_of_nothing_is_told(tmp_path):
    done = charlm("summary", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "error: evaluate.json: not there yet; run `dvc repro` first\n")

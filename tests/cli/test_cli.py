import importlib.metadata
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from ruamel.yaml import YAML
from support.fork_server import commands
from support.models import random_model

from pipeline.cli.app import app
from pipeline.cli.experiments import PRESETS, apply_preset, list_presets, read_preset
from pipeline.cli.generate import background, shaded
from pipeline.generation.text_types import Score
from pipeline.params.groups import GROUPS
from pipeline.params.reader import flatten, read_groups, read_yaml

pytestmark = pytest.mark.end_to_end

ROOT = Path(__file__).parents[2]
NAMES = [preset.name for preset in list_presets()]


def charlm(*arguments, cwd=ROOT, **options):
    return subprocess.run(
        [commands() / "charlm", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        **options,
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
    assert "# Every setting of the pipeline" in path.read_text()


def test_presets_are_listed_and_an_unknown_one_is_an_error():
    listed = charlm("preset").stdout
    assert all(path.stem in listed for path in PRESETS.glob("*.yaml"))
    unknown = charlm("preset", "tutorail")
    assert unknown.returncode == 2
    assert unknown.stderr.startswith("error: preset: found 'tutorail', allowed are ")


def test_sweeps_are_listed_and_wrong_ones_are_one_line():
    listed = charlm("sweep").stdout
    assert all(path.stem in listed for path in (PRESETS / "sweeps").glob("*.yaml"))
    for arguments, message in (
        (["quik"], "error: sweep: found 'quik', allowed are quick, regularise, or the path of a .yaml file\n"),
        (["quick", "-S", "model.layers=2"], "error: -S model.layers: no such param"),
        (["quick", "--cpus", "1"], "error: --cpus, --gpus: found without --ray, allowed are --jobs here"),
        (["quick", "-S", "clean.lowercase=true"], "error: -S clean.lowercase: the data and the measurement are those"),
        (["quick", "--name", "a b"], "error: --name: found 'a b', allowed are up to 61 letters, digits, - and _"),
    ):
        done = charlm("sweep", *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(message)
        assert done.stderr.count("\n") == 1


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
        (["x", "--temperature", "-1"], "error: --temperature: found -1.0, allowed is 0 to 100\n"),
        (["x", "--num-chars", "-1"], "error: --num-chars: found -1, allowed is 0 to 100000\n"),
        (
            ["x", "--model", "gone"],
            "error: --model: gone: no model there; allowed is a folder, models:/NAME@ALIAS or models:/NAME/VERSION\n",
        ),
        (["x", "--top-p", "0"], "error: --top-p: found 0.0, allowed is more than 0 and at most 1\n"),
        (["x", "-n", "0"], "error: --samples: found 0, allowed is 1 to 10000\n"),
        (["x", "--file", "y"], "error: --file: found together with a prompt, allowed is one of them\n"),
        (["--file", "y"], "error: y: no such file or directory\n"),
        (
            ["x", "--greedy", "--temperature", "1"],
            "error: --temperature: found 1 together with --greedy, allowed is one of them\n",
        ),
        (
            ["--interactive", "--json"],
            "error: --interactive: writes one text, as text; allowed without -n and --json\n",
        ),
    ],
)
def test_wrong_options_are_one_line(folder, arguments, message):
    done = charlm("generate", *arguments, cwd=folder)
    assert (done.returncode, done.stderr, done.stdout) == (2, message, "")


def test_allowed_characters_that_the_model_does_not_know_are_refused(folder):
    done = charlm("generate", "a", "--allowed", "XYZ", cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == "error: allowed: the model knows none of the characters 'XYZ'"


def test_a_prompt_comes_from_a_file_or_from_standard_input(folder):
    expected = charlm("generate", "abc", "--num-chars", "20", cwd=folder).stdout
    (folder / "prompt.txt").write_text("abc")
    assert charlm("generate", "--file", "prompt.txt", "--num-chars", "20", cwd=folder).stdout == expected
    for arguments in ([], ["--file", "-"]):
        assert charlm("generate", *arguments, "--num-chars", "20", cwd=folder, input="abc").stdout == expected
    (folder / "bad.txt").write_bytes(b"abc\xff")
    assert charlm("generate", "--file", "bad.txt", cwd=folder).stderr == "error: bad.txt: not UTF-8 (byte 3)\n"


def test_streaming_prints_the_same_text(folder):
    arguments = ["generate", "abc", "--num-chars", "50", "--stop", "zz"]
    assert charlm(*arguments, "--stream", cwd=folder).stdout == charlm(*arguments, "--no-stream", cwd=folder).stdout


def test_several_samples_are_labelled_and_each_can_be_reproduced(folder):
    done = charlm("generate", "abc", "--num-chars", "20", "-n", "3", "--json", cwd=folder)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len({answer["completion"] for answer in answers}) == 3
    for answer in answers:
        seed = str(answer["seed"])
        again = charlm("generate", "abc", "--num-chars", "20", "--seed", seed, "--json", cwd=folder).stdout
        assert json.loads(again) == answer
    headed = charlm("generate", "abc", "--num-chars", "20", "-n", "2", cwd=folder).stdout
    assert headed.startswith(f"--- 1 of 2, seed {answers[0]['seed']}\nabc{answers[0]['completion']}\n--- 2 of 2, seed ")


def test_turns_continue_from_the_whole_text_so_far(folder):
    done = charlm("generate", "abc", "--num-chars", "15", "--greedy", "--interactive", cwd=folder, input="\ndef\n")
    first, second, third = done.stdout.splitlines()[:3]
    assert done.returncode == 0
    whole = charlm("generate", "abc", "--num-chars", "30", "--greedy", cwd=folder).stdout.rstrip("\n")
    assert first + second == whole
    after = charlm("generate", first + second + "def", "--num-chars", "15", "--greedy", cwd=folder).stdout.rstrip("\n")
    assert first + second + "def" + third == after


def test_a_model_that_ends_its_texts(tmp_path):
    random_model(bounded=True, ending=1.0).save(tmp_path / "models/charlm")
    arguments = ["generate", "abc", "--num-chars", "300", "--temperature", "1"]
    one, two = (json.loads(charlm(*arguments, "--seed", seed, "--json", cwd=tmp_path).stdout) for seed in ("3", "4"))
    assert (one["finish_reason"], two["finish_reason"]) == ("stop", "stop")
    plain, streamed = (
        charlm(*arguments, "--seed", "3", how, cwd=tmp_path).stdout for how in ("--stream", "--no-stream")
    )
    assert plain == streamed == f"abc{one['completion']}\n"
    turns = charlm(*arguments, "--seed", "3", "--interactive", cwd=tmp_path, input="\n")
    first = turns.stdout.splitlines()[0] if one["completion"].isprintable() else None
    assert first in {None, "abc" + one["completion"]}
    assert turns.stderr.count("The text has ended") == 2


def test_score_says_how_well_a_text_is_predicted(folder):
    (folder / "text.txt").write_text("abc def\n😀")
    said = charlm("score", "text.txt", cwd=folder)
    figures = json.loads(charlm("score", "--json", cwd=folder, input="abc def\n😀").stdout)
    assert (figures["characters"], figures["unknown"]) == (8, 1)
    perplexity, bits = figures["perplexity"], figures["bits_per_char"]
    assert said.stdout == f"perplexity {perplexity:.3f}, {bits:.3f} bits per character, 8 characters\n"
    assert said.stderr == "model: models/charlm\nwarning: left out 1 characters that the model does not know\n"
    assert charlm("score", cwd=folder, input="XYZ").stderr.splitlines() == [
        "model: models/charlm",
        "error: standard input: contains no character that the model knows",
    ]


@pytest.mark.parametrize("bounded", [False, True])
def test_score_can_learn_from_the_text_on_the_way(bounded, tmp_path):
    random_model(bounded=bounded).save(tmp_path / "models/charlm")
    before = (tmp_path / "models/charlm/weights.safetensors").read_bytes()
    text = "abc def\n😀" * 1000
    options = {"cwd": tmp_path, "input": text}
    plain, adapted = (json.loads(charlm("score", "--json", *more, **options).stdout) for more in ([], ["--adapt"]))
    assert (adapted["characters"], adapted["unknown"]) == (plain["characters"], plain["unknown"]) == (8000, 1000)
    assert adapted["perplexity"] < 0.8 * plain["perplexity"]
    again = charlm("score", "--adapt", **options)
    assert again.stdout.startswith(f"perplexity {adapted['perplexity']:.3f}, ")
    assert (tmp_path / "models/charlm/weights.safetensors").read_bytes() == before
    # Before the first step the scores are those of the model as it is saved.
    short = [charlm("score", "--json", *more, cwd=tmp_path, input=text[:40]).stdout for more in ([], ["--adapt"])]
    assert json.loads(short[0]) == pytest.approx(json.loads(short[1]), abs=2e-4)


def test_learning_from_a_text_needs_pytorch_and_full_precision(folder):
    def error(*more, places=None, **options):
        words = [(places or commands()) / "charlm", "score", "--adapt", *more]
        done = subprocess.run(words, cwd=folder, input="abc", capture_output=True, text=True, **options)
        assert (done.returncode, done.stdout) == (2, "")
        return done.stderr.splitlines()[-1]

    assert error("--precision", "bf16") == "error: --precision: found bf16, allowed is fp32 with --adapt"
    (folder / "no/torch").mkdir(parents=True)
    (folder / "no/torch/__init__.py").write_text("raise ImportError('no torch here')")
    # Not in a fork, which has PyTorch.
    missing = error(
        places=Path(sys.executable).parent, env=os.environ | {"PYTHONPATH": f"{folder / 'no'}{os.pathsep}{ROOT}"}
    )
    assert missing.startswith("error: --adapt: needs PyTorch (no torch here)")


def test_more_surprising_characters_are_redder():
    assert background(0.1).bgcolor != background(9).bgcolor
    assert background(9).bgcolor.get_truecolor().green < background(0.1).bgcolor.get_truecolor().green
    text = shaded(Score("ab\ncd", np.array([-0.1, -5, -1, -1, -1], dtype=np.float32), 0), 4)
    assert text.plain == "ab↵\nc …"


def test_help_loads_nothing_heavy():
    heavy = ("torch", "mlflow", "pandas", "numpy", "numba", "optuna")
    code = f"import sys, pipeline.cli.app; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_the_version_is_that_of_the_package():
    assert charlm("--version").stdout == f"charlm {importlib.metadata.version('charlm')}\n"


def test_help_groups_every_command_and_says_each_in_one_line():
    shown = charlm("--help", env=os.environ | {"COLUMNS": "80", "TERM": "dumb"}).stdout
    for panel in ("Data", "Experiments", "Models", "Writing and serving"):
        assert f"─ {panel} ─" in shown
    assert "─ Commands ─" not in shown  # the panel of commands without one
    commands = typer.main.get_command(app).commands
    for name, command in commands.items():
        line = next(line for line in shown.splitlines() if line.startswith(f"│ {name} "))
        assert line.strip("│ ").endswith(command.short_help)

"""docs/github-actions.yml: its commands and options exist."""

import re
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from typer.main import get_command

from pipeline.cli.app import app

ROOT = Path(__file__).parents[2]
JOB = YAML(typ="safe").load((ROOT / "docs/github-actions.yml").read_text())["jobs"]["experiment"]
SCRIPTS = "\n".join(step["run"] for step in JOB["steps"] if "run" in step)


def test_charlm_commands_and_options_exist():
    commands = get_command(app).commands
    for name, rest in re.findall(r"charlm ([a-z]+)([^\n|]*)", SCRIPTS):
        options = {option for parameter in commands[name].params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", rest)) <= options, name


@pytest.mark.parametrize("command", sorted(set(re.findall(r"\bdvc ((?:exp|params|metrics|plots) \w+|\w+)", SCRIPTS))))
def test_dvc_commands_exist(command):
    subprocess.run(["dvc", *command.split(), "--help"], check=True, capture_output=True)


def test_scripts_are_valid_bash():
    subprocess.run(["bash", "-n"], input=SCRIPTS, text=True, check=True)

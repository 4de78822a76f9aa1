"""What `charlm corpus` suggests for a text runs through `validate`, with the real dvc."""

import json
import shlex

import pytest
from ruamel.yaml import YAML
from support.projects import ROOT, Project
from support.speeches import speeches, wrapped

from pipeline.core.files import read_json
from pipeline.params.reader import read_yaml

pytestmark = pytest.mark.end_to_end


@pytest.fixture
def project(tmp_path):
    """A project whose `validate` has the documented params: those of the other tests allow every overlap."""
    project = Project(tmp_path)
    (project.folder / "speech.txt").write_text(wrapped(speeches()))
    params = read_yaml(project.folder / "params.yaml")
    params["validate"] = read_yaml(ROOT / "params.yaml")["validate"]
    YAML(typ="safe").dump(params, project.folder / "params.yaml")
    project.commit("a speech")
    return project


def test_the_command_passes_validate_with_the_overlap_that_was_shown(project):
    shown = project.run("charlm", "corpus", "speech.txt", "--no-time")
    command = shown.strip().splitlines()[-1]
    assert command.startswith("dvc exp run -S data.source=speech.txt")
    assert "clean.keep_newlines=false" in command
    output = project.run(*shlex.split(command), "validate")
    assert "warning: validate: overlap_is_low" in output
    share = read_json(project.folder / "metrics/validate.json")["overlap"]["eval"]
    assert 0.01 < share < 0.5
    assert f"{share:.0%} of the eval text also occurs in train" in shown
    assert json.loads(project.run("charlm", "corpus", "speech.txt", "--no-time", "--json"))["overlap"] == {
        "eval": share
    }

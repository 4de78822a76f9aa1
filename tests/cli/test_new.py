"""`charlm new` with the real DVC: from a text to a model, and what it leaves when something is wrong."""

import json

import pytest
from ruamel.yaml import YAML
from support.projects import TEXT, Project

pytestmark = pytest.mark.end_to_end

SMALL = ["-S", "model.num_hidden=8", "-S", "train.epochs=1", "-S", "generate.num_chars=20"]


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def params(project):
    return YAML(typ="safe").load((project.folder / "params.yaml").read_text())


def test_it_shows_what_is_wrong_before_anything_changes(project):
    (project.folder / "notes.txt").write_text(TEXT)
    before = (project.folder / "params.yaml").read_bytes()
    dry = project.run("charlm", "new", "notes.txt", "--dry-run", *SMALL)
    assert "registered model: charlm-notes" in dry
    assert "model.num_hidden = 8: your own choice (-S)" in dry
    assert "nothing was changed (--dry-run)" in dry
    for arguments, message in (
        (["gone.txt"], "no such file or folder: 'gone.txt'"),
        (["notes.txt", "-S", "model.num_hiden=3"], "did you mean model.num_hidden?"),
        (["notes.txt", "--name", "a/b"], 'register.model_name: found "a/b"'),
    ):
        done = project.run("charlm", "new", *arguments, expect=2)
        assert message in done
        assert done.count("\n") == 1
    assert (project.folder / "params.yaml").read_bytes() == before
    assert not (project.folder / "models").exists()


@pytest.mark.slow
def test_one_command_from_a_text_to_a_model(project):
    (project.folder / "été.txt").write_text(TEXT.replace("permission", "été").replace("software", "où"))
    (project.folder / "params.yaml").open("a").write("# my own edit\n")
    done = project.run("charlm", "new", "été.txt", "--name", "charlm-summer", *SMALL)
    assert "cp .charlm/params-before-new.yaml params.yaml" in done  # Git does not have the edit
    assert "models:/charlm-summer" in done
    assert "# my own edit" in (project.folder / "params.yaml").read_text()
    prompts = params(project)["generate"]["prompts"]
    assert prompts
    assert all(prompt in (project.folder / "été.txt").read_text() for prompt in prompts)
    registration = json.loads((project.folder / "models/registration.json").read_text())
    assert registration["model_name"] == "charlm-summer"
    assert "summer: 1 version" in project.run("charlm", "models")

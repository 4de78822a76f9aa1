"""Which forms `charlm export` has, and what it refuses; the forms themselves are tested in tests/export."""

import json

import pytest
from support.models import random_model
from typer.testing import CliRunner

from pipeline.cli.app import app
from pipeline.core.errors import UserError


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random_model().save(tmp_path / "model")
    return str(tmp_path / "model")


def run(*arguments):
    done = CliRunner().invoke(app, ["export", *arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model.pt"], "allowed is NAME.html, NAME.onnx or a folder NAME/"),
        (["model.onnx", "--weights", "int8"], "--weights: found int8, allowed for model.onnx is auto, fp32, bf16"),
        (["folder/", "--weights", "bf16"], "--weights: found bf16"),
        (["model.onnx", "--title", "x"], "--title: found with model.onnx, allowed is NAME.html"),
        (["page.html", "--licence", "mit"], "--licence: found with page.html, allowed is NAME/"),
        (["folder/", "--licence", "a: b"], "--licence: found 'a: b'"),
        (["folder/", "--ngram-size", "1MB"], "--ngram-size: found 1MB with folder/, allowed is 0"),
        (["model/"], "is a folder that `charlm export` did not write"),
        (["model.onnx", "--model", "nowhere"], "no model there"),
    ],
)
def test_what_is_refused(model, arguments, message):
    extra = [] if "--model" in arguments else ["--model", model]
    force = ["--force"] if arguments == ["model/"] else []
    with pytest.raises(UserError) as error:
        run(*arguments, *extra, *force)
    assert message in str(error.value)


def test_a_file_is_replaced_only_with_force(model):
    run("network.onnx", "--model", model)
    with pytest.raises(UserError, match="already exists"):
        run("network.onnx", "--model", model)
    assert "network.onnx" in run("network.onnx", "--model", model, "--force")


def test_a_folder_has_samples_of_the_model(model, tmp_path):
    output = run("mine/", "--model", model)
    assert "README.md" in output
    text = (tmp_path / "mine/README.md").read_text("utf-8")
    assert text.count("```text") == 3
    assert json.loads((tmp_path / "mine/card.json").read_text("utf-8"))["name"] == "mine"
    run("mine/", "--model", model, "--force")

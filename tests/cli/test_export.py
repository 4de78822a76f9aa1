"""Which forms `charlm export` has, and what it refuses; the forms themselves are tested in tests/export."""

import json
import os
import re
import resource
import subprocess
import sys

import pytest
from support.models import random_model
from support.projects import ROOT
from typer.testing import CliRunner

from pipeline.cli.app import app
from pipeline.core.errors import UserError
from pipeline.core.files import read_json, write_json


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random_model().save(tmp_path / "model")
    return str(tmp_path / "model")


def run(*arguments, command=("export",)):
    done = CliRunner().invoke(app, [*command, *arguments])
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


@pytest.mark.parametrize(
    "arguments",
    [
        ["generate", "a", "--model", "model"],
        ["score", "text.txt", "--model", "model"],
        ["serve", "--port", "0", "--model", "model"],
        ["export", "page.html", "--model", "model"],
        ["export", "network.onnx", "--model", "model"],
        ["export", "folder/", "--model", "model"],
        ["import", "model"],
    ],
)
def test_a_model_of_a_newer_format_is_refused_in_one_line(model, tmp_path, arguments):
    config = tmp_path / "model/config.json"
    write_json(config, read_json(config) | {"format": 2})
    (tmp_path / "text.txt").write_text("abc")
    before = set(tmp_path.iterdir())
    with pytest.raises(UserError) as error:
        run(*arguments, command=())
    message = "model/config.json: format: found 2, allowed is 1; a newer charlm wrote this model, so update charlm"
    assert str(error.value) == message
    assert set(tmp_path.iterdir()) == before


TARGETS = ("page.html", "network.onnx", "folder/")


def contents(folder):
    """The bytes of every file below `folder`, and the names of its folders."""
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize("target", TARGETS)
def test_no_target_is_replaced_without_force(model, tmp_path, target):
    run(target, "--model", model)
    before = contents(tmp_path)
    with pytest.raises(UserError) as error:
        run(target, "--model", model)
    assert str(error.value) == f"{target.rstrip('/')}: already exists; --force replaces it"
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("target", "found", "allowed"), [("page.html", "folder", "file"), ("folder/", "file", "folder")]
)
def test_a_folder_is_no_file_and_a_file_no_folder(model, tmp_path, target, found, allowed):
    path = tmp_path / target
    path.mkdir() if found == "folder" else path.write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(UserError, match=f"is a {found}, allowed is the name of a {allowed}"):
        run(target, "--model", model, "--force")
    assert contents(tmp_path) == before


@pytest.mark.slow
@pytest.mark.end_to_end
@pytest.mark.parametrize("earlier", [True, False])
@pytest.mark.parametrize("target", TARGETS)
def test_no_space_is_one_line_and_nothing_is_half_written(model, tmp_path, target, earlier):
    """As `ulimit -f`, which is what a full disk is to a test without root."""
    if earlier:
        run(target, "--model", model)
    before = contents(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli.app", "export", target, "--model", "model", "--force"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512)),
    )
    assert done.returncode == 2
    *others, last = done.stderr.splitlines()
    assert others == ["model: model"]
    assert re.fullmatch(rf"error: {target.rstrip('/')}\S*: .*larger than this process may write.*", last)
    assert contents(tmp_path) == before

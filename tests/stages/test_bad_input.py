"""The stage scripts refuse bad input: one line, exit code 2, no traceback, and earlier outputs stay as they are."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from ruamel.yaml import YAML
from support.fork_server import commands
from support.models import random_model
from support.projects import ROOT, TINY
from support.projects import STAGES as ALL_STAGES
from support.tables import TEXT

pytestmark = pytest.mark.end_to_end

STAGES = [stage for stage in ALL_STAGES if stage != "summary"]


def run(project, stage, **environment):
    return subprocess.run(
        [commands() / "python", "-m", f"stages.{stage}"],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
    )


def set_params(project, **groups):
    path = project / "params.yaml"
    content = YAML(typ="safe").load(path.read_text())
    for name, values in groups.items():
        content.setdefault(name, {}).update(values)
    YAML(typ="safe").dump(content, path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return a project in which every stage has run on a small text."""
    project = tmp_path_factory.mktemp("whole")
    shutil.copy(ROOT / "params.yaml", project)
    (project / "text.txt").write_text(TEXT)
    set_params(project, **TINY)
    for stage in STAGES:
        done = run(project, stage)
        assert done.returncode == 0, (stage, done.stderr)
    return project


@pytest.fixture
def project(whole, tmp_path):
    return Path(shutil.copytree(whole, tmp_path / "project"))


def outputs(project):
    return {
        str(path.relative_to(project)): path.read_bytes()
        for folder in ("data", "models", "samples", "metrics", "plots")
        for path in sorted((project / folder).rglob("*"))
        if path.is_file()
    }


def assert_refused(project, stage, message, **environment):
    before = outputs(project)
    done = run(project, stage, **environment)
    lines = done.stderr.strip().splitlines()
    assert (done.returncode, len(lines)) == (2, 1), done.stderr
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert outputs(project) == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "error: data.source: no such file or folder: 'text.txt'; allowed are 'sotu', a file"),
        (b"", "error: data.source: text.txt: empty"),
    ],
)
def test_a_missing_or_empty_source_is_refused(project, content, message):
    (project / "text.txt").unlink()
    if content is not None:
        (project / "text.txt").write_bytes(content)
    assert_refused(project, "source", message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"abc\0def" * 100, "data.source: text.txt: a binary file (NUL at byte 3); allowed is text"),
        (b"abc\xff" + b"x" * 99, "data.source: text.txt: invalid utf-8 at byte 3 (0xff); set data.encoding, or"),
    ],
)
def test_a_binary_source_is_refused(project, content, message):
    (project / "text.txt").write_bytes(content)
    assert_refused(project, "source", message)


def test_invalid_utf8_can_be_allowed(project):
    (project / "text.txt").write_bytes(TEXT.encode() + b"\xff")
    set_params(project, data={"errors": "replace"})
    assert [run(project, stage).returncode for stage in ("source", "ingest")] == [0, 0]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"model": {"num_hiden": 128}}, "params.yaml: model.num_hiden: unknown key; did you mean num_hidden?"),
        ({"generate": {"temprature": 1}}, "params.yaml: generate.temprature: unknown key; did you mean temperature?"),
        ({"model": {"dropout": 1.5}}, "params.yaml: model.dropout: found 1.5, allowed is less than 1"),
        ({"model": {"num_hidden": 0}}, "params.yaml: model.num_hidden: found 0, allowed is greater than or equal to 1"),
        ({"model": {"num_hidden": "many"}}, 'params.yaml: model.num_hidden: found "many", allowed is a valid integer'),
        ({"split": {"buckets": []}}, "params.yaml: split.buckets: found [], allowed is"),
        ({"extra": {}}, "params.yaml: extra: unknown group"),
    ],
)
def test_wrong_params_are_refused_by_the_first_stage(project, groups, message):
    set_params(project, **groups)
    assert_refused(project, "source", message)


def a_damaged_base(project):
    weights = Path(shutil.copytree(project / "models/charlm", project / "base")) / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5])


def a_wider_base(project):
    random_model(layers=1, hidden=12).save(project / "base")


@pytest.mark.parametrize(
    ("address", "prepare", "message", "environment"),
    [
        ("base", lambda _: None, "train.start_from: base: no model there; allowed is a folder, models:/", {}),
        ("base", a_damaged_base, "train.start_from: base cannot be loaded: ", {}),
        (
            "base",
            a_wider_base,
            "base has model.num_hidden 12, model.num_embed 6; params.yaml has model.num_hidden 8, model.num_embed 4",
            {},
        ),
        ("models/charlm", lambda _: None, "train.start_from: models/charlm is what training replaces", {}),
        ("models:/nobody@champion", lambda _: None, "train.start_from: models:/nobody@champion: ", {}),
        ("models:/charlm", lambda _: None, "train.start_from: found models:/charlm, allowed is a folder", {}),
        (
            "models:/charlm@champion",
            lambda _: None,
            "train.start_from: models:/charlm@champion: ",
            {"MLFLOW_REGISTRY_URI": "http://127.0.0.1:9"},
        ),
        (
            "models:/charlm@champion",
            lambda _: None,
            "MLFLOW_TRACKING_URI: http://127.0.0.1:9 does not answer",
            {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"},
        ),
    ],
)
def test_a_start_model_that_cannot_be_used(project, address, prepare, message, environment):
    prepare(project)
    set_params(project, train={"start_from": address})
    assert_refused(project, "source", message, **environment)


def test_a_start_model_without_a_common_character(project):
    model = random_model(layers=1, hidden=8, embed=4, characters="àéî")
    model.save(project / "base")
    set_params(project, train={"start_from": "base"})
    assert run(project, "source").returncode == 0
    done = run(project, "validate")
    assert done.returncode == 2
    assert "error: train.start_from: base and the text have no character in common: found 'àéî'" in done.stderr


@pytest.mark.parametrize("content", [None, "{", '{"files": [{}]}'])
def test_a_damaged_source_json_is_refused(project, content):
    path = project / "data/source.json"
    path.unlink() if content is None else path.write_text(content)
    assert_refused(project, "ingest", "data/source.json: missing or damaged; `dvc repro` rebuilds it")


def test_a_source_json_of_another_source_is_refused(project):
    (project / "data/source.json").write_text('{"source": "sotu"}')
    assert_refused(project, "ingest", "data/source.json: describes another source or other columns")


def test_unreadable_params_are_refused(project):
    (project / "params.yaml").write_text("data: [")
    assert_refused(project, "clean", "params.yaml: not readable as YAML")


def test_an_unreachable_tracking_server_is_refused_by_the_first_stage(project):
    message = "MLFLOW_TRACKING_URI: http://127.0.0.1:9 does not answer"
    assert_refused(project, "source", message, MLFLOW_TRACKING_URI="http://127.0.0.1:9")


def test_a_tracking_server_that_becomes_unreachable_later_gives_a_warning(project):
    done = run(project, "register", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert done.returncode == 0
    assert "warning: the model is not registered (MLFLOW_TRACKING_URI: http://127.0.0.1:9 does not" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"train": {"batch_size": 4000}}, "validate: train_fills_a_batch: the text is too short for one batch"),
        (
            {"evaluate": {"window": 4000}},
            "validate: eval_fills_a_window: the eval or test text is too short for one window",
        ),
        (
            {"validate": {"max_overlap": 0.0}},
            "validate: eval_not_in_train: most of the eval or test text occurs in the training text",
        ),
    ],
)
def test_a_failed_expectation_stops_the_pipeline(project, groups, message):
    set_params(project, **groups)
    done = run(project, "validate")
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (2, 1), done.stderr
    assert message in done.stderr
    assert not (project / "data/validated.json").exists()
    assert '"passed": false' in (project / "reports/validation.json").read_text()


def test_a_text_too_short_to_split_is_refused(project):
    (project / "text.txt").write_text("short")
    for stage in ("source", "ingest", "clean"):
        assert run(project, stage).returncode == 0
    assert_refused(project, "split", "split.train_fraction: 0.9 of 5 characters leaves")


@pytest.mark.parametrize("stage", ["evaluate", "generate", "register"])
def test_truncated_weights_are_refused(project, stage):
    path = project / "models/charlm/weights.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    assert_refused(project, stage, "models/charlm/weights.safetensors: damaged or cut off")


@pytest.mark.parametrize("stage", ["evaluate", "generate", "register"])
def test_weights_that_do_not_match_the_dictionary_are_refused(project, stage):
    shutil.copy(project / "data/split/dictionary.json", project / "models/charlm/dictionary.json")
    path = project / "models/charlm/dictionary.json"
    path.write_text(path.read_text().replace('"a",\n', "", 1))
    assert_refused(project, stage, "models/charlm/dictionary.json: holds")


def test_an_unavailable_device_is_refused(project):
    set_params(project, train={"device": "mps" if sys.platform != "darwin" else "cuda"})
    assert_refused(project, "train", "train.device: found")


def test_a_model_can_be_logged_without_being_registered(project):
    client = MlflowClient(f"sqlite:///{project}/mlflow.db", f"sqlite:///{project}/mlflow.db")
    versions = len(client.search_model_versions("name = 'charlm'"))
    set_params(project, register={"enabled": False})
    done = run(project, "register")
    assert (done.returncode, done.stdout) == (0, "logged, not registered (register.enabled is false)\n"), done.stderr
    assert len(client.search_model_versions("name = 'charlm'")) == versions
    assert '"model_name": null' in (project / "models/registration.json").read_text()


@pytest.mark.slow
def test_a_killed_training_resumes_and_gives_the_same_weights(project):
    set_params(project, train={"epochs": 200, "evals_per_epoch": 2, "checkpoint_seconds": 0.05})
    assert run(project, "train").returncode == 0
    uninterrupted = outputs(project)["models/charlm/weights.safetensors"]
    shutil.rmtree(project / "models/charlm")

    killed = subprocess.Popen(
        [sys.executable, "-m", "stages.train"],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    kept = project / ".charlm/checkpoints"
    while not list(kept.glob("*/*.safetensors")):
        assert killed.poll() is None
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    assert not (project / "models/charlm").exists()

    done = run(project, "train", DVC_EXP_NAME="again")  # another execution, so another session
    assert "warning" not in done.stderr, done.stderr
    assert "resuming from the checkpoint after update " in done.stderr
    assert outputs(project)["models/charlm/weights.safetensors"] == uninterrupted
    assert not list(kept.glob("*/*.safetensors"))
    client = MlflowClient(f"sqlite:///{project}/mlflow.db", f"sqlite:///{project}/mlflow.db")
    (later,) = client.search_runs(["1"], "tags.`dvc.experiment` = 'again'")
    first = client.get_run(later.data.tags["charlm.continues"])
    assert first.data.tags["charlm.continued_by"] == later.info.run_id
    assert [first.info.status, later.info.status] == ["FINISHED", "FINISHED"]
    steps = [
        {point.step for point in client.get_metric_history(one.info.run_id, "train/eval_perplexity")}
        for one in (first, later)
    ]
    assert len(steps[1]) == 400  # all of the curve
    assert max(steps[0]) == max(steps[1])


@pytest.mark.slow
def test_every_stage_writes_the_same_bytes_again(project):
    before = outputs(project)
    for stage in STAGES:
        assert run(project, stage).returncode == 0
    after = outputs(project)
    timed = {"plots/train.csv", "metrics/train.json", "metrics/summary.json"}
    assert {name for name in before if before[name] != after[name]} <= timed

"""A training that starts from another model: what makes it run again, how it is traced, and that its bytes stay."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from mlflow import MlflowClient
from support.projects import ALWAYS, Project
from support.tables import TEXT as OTHER

from pipeline.core.files import sha256_of

pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with a registered base, `charlm` version 1, also in the folder `base`."""
    project = Project(tmp_path_factory.mktemp("charlm"))
    project.run("dvc", "repro", "-q")
    shutil.copytree(project.folder / "models/charlm", project.folder / "base")
    (project.folder / "other.txt").write_text(OTHER * 4)
    with (project.folder / ".gitignore").open("a") as file:
        file.write("\n/base\n")
    project.commit("a base")
    return project


TUNED = ("-S", "data.source=other.txt", "-S", "register.model_name=tuned", "-S")


def test_the_registered_base_is_tuned_traced_and_rebuilt(project):
    output = project.run("dvc", "exp", "run", "-n", "tuned", *TUNED, "train.start_from=models:/charlm@champion")
    assert "training text of the start model" not in output  # it is known, and has nothing of the eval text
    sha256 = sha256_of(project.folder / "base/weights.safetensors")
    runs, _ = project.runs()
    assert runs["tuned"].data.tags["train.start_sha256"] == sha256
    assert runs["tuned"].data.params["train.start_from"] == "models:/charlm@champion"
    assert runs["repro"].data.tags.keys().isdisjoint({"train.start_sha256", "train.start_from"})
    assert project.ran(project.run("dvc", "repro")) == ALWAYS
    traced = project.run("charlm", "trace", "1", "--model", "tuned")
    assert f"start model   models:/charlm@champion  weights sha256 {sha256}" in traced

    # The champion is another one since: verify still finds the base, a training starts from the new champion.
    store = f"sqlite:///{project.folder}/mlflow.db"
    client = MlflowClient(store, store)
    first = client.get_model_version("charlm", "1")
    other = client.create_model_version("charlm", client.get_model_version("tuned", "1").source, run_id=first.run_id)
    client.set_registered_model_alias("charlm", "champion", other.version)
    assert project.run("charlm", "verify", "1", "--model", "tuned").count("same bytes") >= 4
    assert "train" in project.ran(project.run("dvc", "repro", "train"))
    client.set_registered_model_alias("charlm", "champion", first.version)
    project.reset()


@pytest.mark.slow
def test_a_folder_and_a_version_of_the_same_model_give_the_same_bytes(project):
    project.run("dvc", "exp", "run", "-q", "-n", "version", *TUNED, "train.start_from=models:/charlm/1")
    weights = project.weights()
    project.reset()
    project.run("dvc", "exp", "run", "--temp", "-n", "apart", *TUNED, "train.start_from=base")
    project.run("dvc", "exp", "apply", "-q", "apart")
    assert project.weights() == weights
    project.reset()


@pytest.mark.slow
def test_training_runs_again_only_if_the_base_changed(project):
    project.run("dvc", "exp", "run", "-q", "-n", "folder", "-S", "train.start_from=base")
    assert project.ran(project.run("dvc", "repro")) == ALWAYS
    for path in (project.folder / "base").iterdir():  # another time, the same bytes
        path.write_bytes(path.read_bytes())
    (project.folder / "base/notes.txt").write_text("not part of the model")
    assert project.ran(project.run("dvc", "repro")) == ALWAYS
    shutil.rmtree(project.folder / "base")
    shutil.copytree(project.folder / "models/charlm", project.folder / "base")
    assert "train" in project.ran(project.run("dvc", "repro"))
    project.reset()


@pytest.mark.slow
def test_a_killed_tuning_resumes_to_the_same_bytes(project):
    options = ("-S", "train.start_from=base", "-S", "train.checkpoint_seconds=0.001", "-S", "train.epochs=40")
    project.run("dvc", "exp", "run", "-q", "-n", "whole", *options)
    weights = project.weights()
    project.run("dvc", "exp", "run", "-q", "-n", "not this", "-S", "train.epochs=1")  # removes the outputs
    project.reset()
    for option in options[1::2]:
        key, value = option.split("=")
        project.run(sys.executable, "-c", SET, key, value)
    for stage in ("source", "ingest", "clean", "split", "validate"):
        project.run(sys.executable, "-m", f"stages.{stage}")
    checkpoints = project.folder / ".charlm/checkpoints"
    with subprocess.Popen(
        [sys.executable, "-m", "stages.train"], cwd=project.folder, env=project.environment(), stderr=subprocess.DEVNULL
    ) as training:
        while not list(checkpoints.rglob("*.safetensors")):
            assert training.poll() is None
            time.sleep(0.01)
        os.kill(training.pid, signal.SIGKILL)
    assert "resuming from the checkpoint after update" in project.run(sys.executable, "-m", "stages.train")
    assert project.weights() == weights
    project.reset()


SET = """
import sys
from pathlib import Path
from pipeline.params.overrides import write_values
from pipeline.params.reader import parse_value
write_values(Path("params.yaml"), {sys.argv[1]: parse_value(sys.argv[2])})
"""


@pytest.mark.slow
def test_a_refused_start_model_changes_nothing(project):
    before = (project.folder / "params.yaml").read_bytes(), project.weights()
    output = project.run("dvc", "exp", "run", "-S", "train.start_from=base", "-S", "model.num_hidden=9", expect=255)
    assert "error: train.start_from: base has model.num_hidden 8; params.yaml has model.num_hidden 9" in output
    assert ((project.folder / "params.yaml").read_bytes(), project.weights()) == before

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


# The presets are for texts of megabytes: their network and training, but small.
SMALL = (
    "-S data.source=text.txt -S model.num_hidden=8 -S model.num_embed=4 -S train.epochs=1 -S register.max_perplexity=99"
)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with two versions of a registered base; version 1 is its champion, and also in the folder `base`."""
    project = Project(tmp_path_factory.mktemp("charlm"))
    (project.folder / "other.txt").write_text(OTHER * 4)
    with (project.folder / ".gitignore").open("a") as file:
        file.write("\n/base\n")
    project.commit("texts")
    project.run("bash", "-c", f"dvc exp run -q -n base $(charlm preset base) {SMALL}")
    shutil.copytree(project.folder / "models/charlm", project.folder / "base")
    project.run("dvc", "exp", "run", "-q", "-n", "another", "-S", "train.seed=8")
    client_of(project).set_registered_model_alias("charlm-base", "champion", "1")
    project.reset()
    return project


def client_of(project):
    store = f"sqlite:///{project.folder}/mlflow.db"
    return MlflowClient(store, store)


def tune(project, name, *options):
    """Run the documented command on other.txt; returns what it prints."""
    words = " ".join(["-n", name, *options])
    sizes = SMALL.replace("text.txt", "other.txt")
    return project.run("bash", "-c", f"dvc exp run $(charlm preset tune) {sizes} {words}")


def test_the_registered_base_is_tuned_traced_and_rebuilt(project):
    output = tune(project, "tuned")
    assert "training text of the start model" not in output  # it is known, and has nothing of the eval text
    sha256 = sha256_of(project.folder / "base/weights.safetensors")
    runs, _ = project.runs()
    assert runs["tuned"].data.tags["train.start_sha256"] == sha256
    assert runs["tuned"].data.params["train.start_from"] == "models:/charlm-base@champion"
    assert runs["base"].data.tags.keys().isdisjoint({"train.start_sha256", "train.start_from"})
    assert project.ran(project.run("dvc", "repro")) == ALWAYS
    traced = project.run("charlm", "trace", "1", "--model", "charlm-other")
    assert f"start model   models:/charlm-base@champion  weights sha256 {sha256}" in traced

    # Another champion: verify still finds the base that this model started from, a training starts from the new one.
    client_of(project).set_registered_model_alias("charlm-base", "champion", "2")
    assert project.run("charlm", "verify", "1", "--model", "charlm-other").count("same bytes") >= 4
    assert "train" in project.ran(project.run("dvc", "repro", "train"))
    client_of(project).set_registered_model_alias("charlm-base", "champion", "1")
    project.reset()


@pytest.mark.slow
def test_a_folder_and_a_version_of_the_same_model_give_the_same_bytes(project):
    tune(project, "version", "-S train.start_from=models:/charlm-base/1")
    weights = project.weights()
    project.reset()
    tune(project, "apart", "--temp", "-S train.start_from=base")
    project.run("dvc", "exp", "apply", "-q", "apart")
    assert project.weights() == weights
    project.reset()


@pytest.mark.slow
def test_training_runs_again_only_if_the_base_changed(project):
    tune(project, "folder", "-S train.start_from=base")
    for path in (project.folder / "base").iterdir():  # another time, the same bytes
        path.write_bytes(path.read_bytes())
    (project.folder / "base/notes.txt").write_text("not part of the model")
    assert project.ran(project.run("dvc", "repro")) == ALWAYS
    for path in (project.folder / "models/charlm").iterdir():
        shutil.copy(path, project.folder / "base")
    assert "train" in project.ran(project.run("dvc", "repro", "train"))
    project.reset()


@pytest.mark.slow
def test_a_killed_tuning_resumes_to_the_same_bytes(project):
    tune(project, "whole", "-q", "-S train.start_from=base -S train.epochs=30 -S train.checkpoint_seconds=0.001")
    weights = project.weights()
    checkpoints = project.folder / ".charlm/checkpoints"
    train = [sys.executable, "-m", "stages.train"]
    with subprocess.Popen(train, cwd=project.folder, env=project.environment(), stderr=subprocess.DEVNULL) as training:
        while not list(checkpoints.rglob("*.safetensors")):
            assert training.poll() is None
            time.sleep(0.01)
        os.kill(training.pid, signal.SIGKILL)
    assert "resuming from the checkpoint after update" in project.run(*train)
    assert project.weights() == weights
    project.run("dvc", "checkout", "-q", "--force")  # the stage ran without DVC, which has not saved its figures
    project.reset()


@pytest.mark.slow
def test_a_refused_start_model_changes_nothing(project):
    before = (project.folder / "params.yaml").read_bytes(), project.weights()
    options = ("-S", "train.start_from=base", "-S", "model.num_hidden=9")
    output = project.run("dvc", "exp", "run", *options, expect=255)
    assert "error: train.start_from: base has model.num_hidden 8; params.yaml has model.num_hidden 9" in output
    assert ((project.folder / "params.yaml").read_bytes(), project.weights()) == before

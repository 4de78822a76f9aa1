"""Which model the commands use, and what they say while there is none."""

import json
import subprocess
from pathlib import Path

import pytest
from support.fork_server import commands
from support.models import random_model

from pipeline.core.files import sha256_of, write_json

pytestmark = pytest.mark.end_to_end

ROOT = Path(__file__).parents[2]
FIRST = "error: models/charlm: there is no model yet; run `make repro` or `dvc repro` first"


def charlm(*arguments, cwd, **options):
    return subprocess.run(
        [commands() / "charlm", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        **options,
    )


@pytest.fixture
def clone(tmp_path):
    """A project as Git has it: params, metrics and plots, but no model."""
    for name in ("params.yaml", "dvc.lock", "metrics", "plots"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@pytest.mark.parametrize("arguments", [["generate", "The"], ["score"], ["serve"], ["report"], ["summary"]])
def test_without_a_model_they_say_what_to_run_first(clone, arguments):
    done = charlm(*arguments, cwd=clone, input="text")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(FIRST)
    assert done.stderr.count("\n") == 1
    assert not (clone / "reports").exists()


def test_without_a_model_nothing_is_registered(clone):
    done = charlm("models", cwd=clone)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == ("error: charlm: no version is registered yet; run `make repro` or `dvc repro` first\n")


def test_the_perplexity_is_that_of_the_model_in_use(tmp_path):
    folder = tmp_path / "models/charlm"
    random_model().save(folder)
    weights = sha256_of(folder / "weights.safetensors")
    write_json(
        tmp_path / "models/registration.json", {"model_name": "charlm", "perplexity": 3.5, "weights_sha256": weights}
    )
    assert charlm("score", cwd=tmp_path, input="abc").stderr == "model: models/charlm, perplexity 3.500\n"
    random_model(seed=1).save(folder)  # another model than the one that was measured
    assert charlm("score", cwd=tmp_path, input="abc").stderr == "model: models/charlm\n"


def test_all_three_take_a_registered_model(tmp_path, monkeypatch):
    """`generate` and `score` read models:/… as `serve` does, and say its version and perplexity."""
    import mlflow
    from mlflow import MlflowClient

    from pipeline.serving.model_source import card_of
    from pipeline.serving.registration import log_model
    from pipeline.tracking.store import open_store

    monkeypatch.chdir(tmp_path)
    model = random_model()
    model.save(tmp_path / "models/charlm")
    with open_store() as (client, experiment):
        assert isinstance(client, MlflowClient)
        with mlflow.start_run(experiment_id=experiment):
            info = log_model(
                tmp_path / "models/charlm", card=card_of(model) | {"perplexity": 4.25}, example_prompt="abc"
            )
        client.create_registered_model("own")
        client.create_model_version("own", source=info.model_uri, run_id=info.run_id, model_id=info.model_id)
        client.set_registered_model_alias("own", "champion", "1")
    expected = json.loads(charlm("score", "--json", cwd=tmp_path, input="abc").stdout)
    done = charlm("score", "--json", "--model", "models:/own@champion", cwd=tmp_path, input="abc")
    assert json.loads(done.stdout) == expected
    assert done.stderr == "model: models:/own@champion, version 1, perplexity 4.250\n"
    done = charlm("generate", "abc", "--model", "models:/own/1", cwd=tmp_path)
    assert done.stderr == "model: models:/own/1, perplexity 4.250\n"
    assert done.stdout.startswith("abc")
    wrong = charlm("generate", "abc", "--model", "models:/own@gone", cwd=tmp_path)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: --model: models:/own@gone: ")
    assert charlm("models", cwd=tmp_path).returncode == 2

"""Trainings in workers on Ray: the same weights for any number of them, also if one is killed, and clear errors."""

import json
import os
import re
from contextlib import closing, suppress

import psutil
import pytest
from support.projects import Project
from support.servers import wait_for
from support.tables import TEXT, tables
from torch import distributed

from pipeline.core import where
from pipeline.core.errors import UserError
from pipeline.dataset.build_splits import build_splits
from pipeline.params.text import SplitParams
from pipeline.params.training import ModelParams, TrainParams
from pipeline.training.checkpoint import Checkpoints, ResumableTraining, open_checkpoints
from pipeline.training.prepare import prepare_training
from pipeline.training.workers import Group, Job, train_in_workers, work

MODEL = ModelParams.model_validate(
    {"num_layers": 2, "num_hidden": 24, "num_embed": 8, "dropout": 0.3, "ngram": {"order": 0}}
)
PARAMS = {"epochs": 20.0, "batch_size": 8, "parts": 4, "threads": 1, "checkpoint_seconds": 0.2}


def ray(test):
    """Mark a test that starts Ray."""
    for mark in (pytest.mark.ray, pytest.mark.end_to_end, pytest.mark.slow):
        test = mark(test)
    return test


@pytest.fixture(scope="module")
def cluster():
    """Two nodes with the processors for 2 workers each, whatever this machine has."""
    cluster_utils = pytest.importorskip("ray.cluster_utils", reason="Ray is not installed: pip install 'charlm[ray]'")
    found = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    found.add_node(num_cpus=2)
    os.environ["RAY_ADDRESS"] = found.address
    yield found
    found.shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A project's folder with its splits."""
    folder = tmp_path_factory.mktemp("workers")
    (folder / "data/split").mkdir(parents=True)
    build_splits(tables(TEXT), folder / "data/split", SplitParams(buckets=(20,)))
    return folder


def train(folder, workers, name, at_step=lambda step: None, **more):
    """Return the best weights, and the curve without its times."""
    params = TrainParams.model_validate(PARAMS | {"workers": workers} | more)
    prepared = prepare_training(MODEL, params, window=20, folder=folder)
    with open_checkpoints(folder / "checkpoints", name) as checkpoints:
        training = ResumableTraining(prepared.trainer, checkpoints, run_id="run")
        if workers == 1:
            steps = training.run(checkpoint_seconds=1e9)
        else:
            steps = train_in_workers(training, MODEL, params, folder=folder)
        last = 0
        for metrics in steps:
            assert metrics.step > last
            last = metrics.step
            at_step(last)
    curve = [(point.step, point.recent_perplexity, point.eval_perplexity) for point in training.points]
    return {key: value.tobytes() for key, value in prepared.trainer.best.items()}, curve


@pytest.fixture(scope="module")
def alone(folder):
    return train(folder, 1, "alone")


@pytest.fixture
def single():
    """A group of torch.distributed with one member."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def training_workers():
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            if "".join(process.cmdline()[:1]).startswith("ray::RayTrainWorker"):  # the method follows while one runs
                found.append(process)
    return found


def job_of(folder, checkpoints, **more):
    checkpoints.mkdir()
    return Job(
        model=MODEL,
        params=TrainParams.model_validate(PARAMS | {"workers": 2} | more),
        window=20,
        folder=folder,
        checkpoints=checkpoints,
        run_id="run",
    )


def test_a_worker_reports_progress_and_ends_with_a_checkpoint(folder, single, tmp_path):
    weights, curve = train(folder, 1, "short", epochs=2.0)
    reports = []
    work(job_of(folder, tmp_path / "checkpoints", epochs=2.0), reports.append)
    assert [(one.step, one.recent_perplexity, one.eval_perplexity) for one in reports if one.is_point] == curve
    tensors = Checkpoints(tmp_path / "checkpoints").load().tensors
    best = {name.removeprefix("best."): tensor for name, tensor in tensors.items() if name.startswith("best.")}
    assert {name: tensor.numpy().tobytes() for name, tensor in best.items()} == weights


def test_a_worker_that_does_not_see_the_project_says_so_in_one_line(single, tmp_path):
    reports = []
    work(job_of(tmp_path, tmp_path / "checkpoints"), reports.append)
    (report,) = reports
    assert re.fullmatch(r"train\.workers: \S+split is not visible on \S+; all machines must share it", report)


def test_machines_of_different_kinds_are_refused(folder, single, tmp_path, monkeypatch):
    collect = Group.collect

    def with_another(group, own):
        return [*collect(group, own), "PyTorch 1 on AVX" if str(own).startswith("PyTorch") else own]

    monkeypatch.setattr(Group, "collect", with_another)
    reports = []
    work(job_of(folder, tmp_path / "checkpoints"), reports.append)
    (report,) = reports
    assert re.fullmatch(r"train\.workers: found PyTorch 1 on AVX and PyTorch 2\S+ on \S+, allowed are .*", report)


@ray
@pytest.mark.parametrize("workers", [2, 4])
def test_any_number_of_workers_gives_the_same_weights_and_curve(cluster, folder, alone, workers):
    assert train(folder, workers, f"{workers} workers") == alone


@ray
def test_a_killed_worker_is_replaced_and_the_training_resumes_with_the_same_result(cluster, folder, alone):
    killed = []
    wait_for(lambda: not training_workers(), 120)  # those of earlier tests end a little later than their training

    def kill(step):
        if step > 60 and not killed:
            workers = training_workers()
            assert len(workers) == 2
            workers[0].kill()
            killed.append(step)

    assert train(folder, 2, "killed", kill) == alone
    assert killed


@ray
def test_a_training_continues_with_another_number_of_workers(cluster, folder, alone):
    class StoppedError(Exception):
        pass

    def stop(_):
        if any((folder / "checkpoints/stopped").glob("*.safetensors")):
            raise StoppedError

    with pytest.raises(StoppedError):
        train(folder, 2, "stopped", stop)
    assert train(folder, 1, "stopped") == alone


@ray
def test_errors_are_one_line(cluster, folder):
    with pytest.raises(UserError, match=r"^train.workers: found 8, allowed are at most 4: no space for more$"):
        train(folder, 8, "many", parts=8)
    with pytest.raises(UserError, match=r"^train.threads: found 16, allowed is at most 2, the largest node's$"):
        train(folder, 2, "threads", threads=16)
    # What the workers find is reported by the first of them.
    optimizer = {"name": "sgd", "lr": 1e30, "beta2": None}
    with pytest.raises(UserError, match=r"^train: the loss is .* at update \d+; lower train.optimizer.lr [^\n]*$"):
        train(folder, 2, "explodes", optimizer=optimizer, clip={"by": "none"})


@ray
def test_a_group_that_fails_again_and_again_is_an_error_of_one_line(cluster, monkeypatch):
    monkeypatch.setattr(where, "RESTARTS", 0)

    def fail(send):
        send("started")
        raise RuntimeError("out of memory, say")

    with closing(where.RayCluster(cpus=1, gpus=0, names=("train.workers", "cpus", "gpus"))) as connection:
        messages = connection.run_group(fail, workers=2)
        assert next(messages) == "started"
        with pytest.raises(UserError, match=r"^train.workers: the workers failed: RuntimeError: out of memory, say$"):
            list(messages)


@ray
def test_the_stage_gives_the_model_of_one_worker(cluster, tmp_path):
    project = Project(tmp_path)
    options = ["-S", "train.parts=2", "-S", "train.threads=1", "-S", "model.dropout=0.2"]

    def model():
        return {path.name: path.read_bytes() for path in (tmp_path / "models/charlm").iterdir()}

    project.run("dvc", "exp", "run", *options)
    expected = model()
    output = project.run("dvc", "exp", "run", "-S", "train.workers=2")
    assert "train" in project.ran(output)
    assert model() == expected
    assert json.loads((tmp_path / "metrics/train.json").read_text())["workers"] == 2

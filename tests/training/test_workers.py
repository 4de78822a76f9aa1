"""Trainings in workers on Ray: the same weights for any number of them, also if one is killed, and clear errors."""

import os

import psutil
import pytest
from support.tables import TEXT, tables

from pipeline.core.errors import UserError
from pipeline.dataset.build_splits import build_splits
from pipeline.params.text import SplitParams
from pipeline.params.training import ModelParams, TrainParams
from pipeline.training.checkpoint import ResumableTraining, open_checkpoints
from pipeline.training.prepare import prepare_training
from pipeline.training.workers import train_in_workers

pytestmark = [pytest.mark.ray, pytest.mark.end_to_end, pytest.mark.slow]
cluster_utils = pytest.importorskip("ray.cluster_utils", reason="Ray is not installed: pip install 'charlm[ray]'")
MODEL = ModelParams.model_validate(
    {"num_layers": 2, "num_hidden": 24, "num_embed": 8, "dropout": 0.3, "ngram": {"order": 0}}
)
EPOCHS = 20.0


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """Two nodes with the processors for 2 workers each, whatever this machine has."""
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
    params = TrainParams.model_validate(
        {
            "epochs": EPOCHS,
            "batch_size": 8,
            "workers": workers,
            "parts": 4,
            "threads": 1,
            "checkpoint_seconds": 0.2,
            **more,
        }
    )
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


@pytest.mark.parametrize("workers", [2, 4])
def test_any_number_of_workers_gives_the_same_weights_and_curve(folder, alone, workers):
    assert train(folder, workers, f"{workers} workers") == alone


def test_a_killed_worker_is_replaced_and_the_training_resumes_with_the_same_result(folder, alone):
    killed = []

    def kill(step):
        if step > 60 and not killed:
            workers = [
                process
                for process in psutil.Process().children(recursive=True)
                if process.cmdline()[:1] == ["ray::RayTrainWorker"]
            ]
            assert len(workers) == 2
            workers[0].kill()
            killed.append(step)

    assert train(folder, 2, "killed", kill) == alone
    assert killed


def test_a_training_continues_with_another_number_of_workers(folder, alone):
    class StoppedError(Exception):
        pass

    def stop(step):
        if step > 60:
            raise StoppedError

    with pytest.raises(StoppedError):
        train(folder, 2, "stopped", stop)
    assert sorted((folder / "checkpoints/stopped").glob("*.safetensors"))
    assert train(folder, 1, "stopped") == alone


def test_errors_are_one_line(folder):
    with pytest.raises(UserError, match=r"^train.workers: found 8, allowed are at most 4: no space for more$"):
        train(folder, 8, "many", parts=8)
    with pytest.raises(UserError, match=r"^train.threads: found 16, allowed is at most 2, the largest node's$"):
        train(folder, 2, "threads", threads=16)
    # What the workers find is reported by the first of them.
    optimizer, clip = {"name": "sgd", "lr": 1e30}, {"by": "none"}
    expected = r"^train: the loss is .* at update \d+; lower train.optimizer.lr"
    with pytest.raises(UserError, match=expected.replace("sgd", "")):
        train(folder, 2, "explodes", optimizer={**optimizer, "beta2": None, "weight_decay": 0.0}, clip=clip)

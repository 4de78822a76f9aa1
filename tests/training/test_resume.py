"""A training that is killed resumes and gives the same weights."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pipeline.core.errors import UserError
from pipeline.training.checkpoint import Checkpoints, open_checkpoints, training_key
from pipeline.training.loop import Snapshot

SCRIPT = Path(__file__).with_name("killed.py")


def train(split, folder, output, kill_at=0):
    return subprocess.run([sys.executable, SCRIPT, split, folder, output, str(kill_at)], check=False).returncode


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    from support.tables import TEXT, tables

    from pipeline.dataset.build_splits import build_splits
    from pipeline.params.text import SplitParams

    folder = tmp_path_factory.mktemp("uninterrupted")
    (folder / "split").mkdir()
    build_splits(tables(TEXT), folder / "split", SplitParams(buckets=(20,)))
    assert train(folder / "split", folder / "kept", folder / "weights") == 0
    result = json.loads((folder / "weights.json").read_text())
    assert result["resumed"] is None
    return folder, result


def best_steps(result):
    return [step for step, *_, is_best in result["curve"] if is_best]


@pytest.mark.end_to_end
@pytest.mark.parametrize(
    "where",
    ["early"]
    + [
        pytest.param(where, marks=pytest.mark.slow)
        for where in ("at an epoch's end", "after an epoch's end", "after best weights", "near the end")
    ],
)
def test_resume_after_kill_gives_the_same_weights(uninterrupted, tmp_path, where):
    folder, result = uninterrupted
    steps = {
        "early": 3,
        "at an epoch's end": result["per_epoch"],
        "after an epoch's end": result["per_epoch"] + 2,
        "after best weights": best_steps(result)[-2] + 1,
        "near the end": result["curve"][-1][0] - 1,
    }
    assert train(folder / "split", tmp_path, tmp_path / "weights", steps[where]) == -signal.SIGKILL
    assert train(folder / "split", tmp_path, tmp_path / "weights") == 0
    again = json.loads((tmp_path / "weights.json").read_text())
    assert again["resumed"] == steps[where] - 1
    assert again["curve"] == result["curve"]
    assert (tmp_path / "weights").read_bytes() == (folder / "weights").read_bytes()
    assert not list((tmp_path / "key").glob("*.safetensors"))


@pytest.mark.slow
def test_resume_after_several_kills_gives_the_same_weights(uninterrupted, tmp_path):
    folder, _ = uninterrupted
    for kill_at in (4, 9, 30, 31):
        assert train(folder / "split", tmp_path, tmp_path / "weights", kill_at) == -signal.SIGKILL
    assert train(folder / "split", tmp_path, tmp_path / "weights") == 0
    assert (tmp_path / "weights").read_bytes() == (folder / "weights").read_bytes()


@pytest.mark.slow
def test_a_damaged_newest_checkpoint_is_skipped(uninterrupted, tmp_path):
    folder, _ = uninterrupted
    train(folder / "split", tmp_path, tmp_path / "weights", 20)
    newest = max((tmp_path / "key").glob("*.safetensors"))
    newest.write_bytes(newest.read_bytes()[:-1] + b"\x7f")
    assert train(folder / "split", tmp_path, tmp_path / "weights") == 0
    assert json.loads((tmp_path / "weights.json").read_text())["resumed"] == 18
    assert (tmp_path / "weights").read_bytes() == (folder / "weights").read_bytes()


def snapshot(step):
    return Snapshot(step=step, tensors={"x": torch.arange(step)}, data={"seconds": 1.5})


def test_two_checkpoints_are_retained_and_the_newest_is_loaded(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.load() is None
    for step in (5, 9, 100):
        checkpoints.save(snapshot(step))
    assert len(list(tmp_path.iterdir())) == 2
    loaded = checkpoints.load()
    assert (loaded.step, loaded.tensors["x"].tolist(), loaded.data) == (100, list(range(100)), {"seconds": 1.5})


def test_a_second_training_with_the_same_key_is_refused(tmp_path):
    with (
        open_checkpoints(tmp_path, "a"),
        pytest.raises(UserError, match="another training with the same data, params and code is running"),
        open_checkpoints(tmp_path, "a"),
    ):
        pass
    with open_checkpoints(tmp_path, "a"), open_checkpoints(tmp_path, "b"):
        pass


def test_the_checkpoint_key_depends_on_settings_and_file_contents(tmp_path):
    path = tmp_path / "ids.npy"
    path.write_text("1")
    key = training_key({"a": 1, "b": 2}, [path])
    assert key == training_key({"b": 2, "a": 1}, [path])
    assert key != training_key({"a": 1, "b": 3}, [path])
    path.write_text("2")
    assert key != training_key({"a": 1, "b": 2}, [path])

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.params.reader import is_locked, stages_in_step

PARAMS = {"model": {"num_hidden": 8}, "train": {"lr": 1e-05}, "generate": {"prompts": ["a"], "seed": 1}}
LOCK = {
    "clean": {"outs": [{"path": "data", "md5": "1"}]},
    "train": {
        "deps": [{"path": "data", "md5": "1"}, {"path": "pipeline/x.py", "md5": "7"}],
        "params": {"params.yaml": {"model": {"num_hidden": 8}, "train": {"lr": 1e-05}}},
        "outs": [{"path": "weights", "md5": "2"}],
    },
    "generate": {
        "deps": [{"path": "weights", "md5": "2"}],
        "params": {"params.yaml": {"generate.prompts": ["a"]}},
        "outs": [{"path": "samples", "md5": "3"}],
    },
}


@pytest.fixture
def write(tmp_path):
    def write(lock=LOCK, params=PARAMS):
        YAML(typ="safe").dump(params, tmp_path / "params.yaml")
        YAML(typ="safe").dump({"schema": "2.0", "stages": lock}, tmp_path / "dvc.lock")
        return tmp_path

    return write


def test_a_whole_run_is_in_step(write):
    assert set(stages_in_step(write())) == {"clean", "train", "generate"}


def test_a_stage_that_did_not_follow_is_not(write):
    lock = LOCK | {"train": LOCK["train"] | {"outs": [{"path": "weights", "md5": "new"}]}}
    assert stages_in_step(write(lock)) == ["clean", "train"]


def test_what_rests_on_a_stage_out_of_step_is_not_either(write):
    lock = LOCK | {"clean": {"outs": [{"path": "data", "md5": "new"}]}}
    assert stages_in_step(write(lock)) == ["clean"]


@pytest.mark.parametrize(
    ("params", "left"),
    [
        (PARAMS | {"model": {"num_hidden": 9}}, ["clean"]),
        (PARAMS | {"model": {"num_hidden": 8, "new": 1}}, ["clean"]),
        (PARAMS | {"generate": {"prompts": ["a"], "seed": 2}}, ["clean", "train", "generate"]),
        (PARAMS | {"generate": {"prompts": ["b"], "seed": 1}}, ["clean", "train"]),
    ],
)
def test_params_that_changed_since(write, params, left):
    assert set(stages_in_step(write(params=params))) == set(left)


def test_no_lock_no_stages(tmp_path):
    assert stages_in_step(Path(tmp_path)) == []


def test_this_projects_own_results_are_in_step():
    root = Path(__file__).parents[2]
    assert "register" in stages_in_step(root), "params.yaml or the results changed; run `dvc repro` and commit dvc.lock"


def test_a_file_is_locked_only_with_the_bytes_in_the_lock(tmp_path):
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics/evaluate.json").write_text("{}")
    outs = [{"path": "metrics/evaluate.json", "md5": "99914b932bd37a50b983c5e7c90ae93b"}]
    YAML(typ="safe").dump({"stages": {"evaluate": {"outs": outs}}}, tmp_path / "dvc.lock")
    assert is_locked(tmp_path, "metrics/evaluate.json")
    (tmp_path / "metrics/evaluate.json").write_text("{ }")
    assert not is_locked(tmp_path, "metrics/evaluate.json")
    assert not is_locked(tmp_path, "metrics/train.json")

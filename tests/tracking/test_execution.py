import subprocess
from pathlib import Path

import pytest

from pipeline.core.files import read_json, write_json
from pipeline.tracking.differences import MAX_CHANGES, Changes, changes
from pipeline.tracking.execution import Session, environment, execution_here
from pipeline.tracking.project import git, git_state, patch_since


def run_git(*arguments):
    subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@localhost", *arguments], check=True, capture_output=True
    )


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    git_state.cache_clear()
    for name, text in {
        "params.yaml": "model:\n  num_hidden: 8\n  cell: lstm\n",
        "pipeline/code.py": "a = 1\n",
        "metrics/train.json": "{}",
        "dvc.lock": "x",
    }.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(text)
    run_git("init", "-q", "-b", "main")
    run_git("add", "-A")
    run_git("commit", "-q", "-m", "start")
    yield tmp_path
    git_state.cache_clear()


def change():
    Path("params.yaml").write_text("model:\n  num_hidden: 12\n  cell: lstm\n  deep: 1\n")
    Path("pipeline/code.py").write_text("a = 2\n")
    Path("pipeline/new.py").write_text("b = 'ü'\n")
    Path("notes.txt").write_text("private\n")
    Path("metrics/train.json").write_text('{"x": 1}')
    Path("dvc.lock").write_text("y")


CHANGES = "model.num_hidden 8 → 12, model.deep absent → 1, pipeline/code.py, pipeline/new.py"


def test_changes_since_a_commit_are_listed(project):
    assert str(changes("HEAD")) == "nothing"
    change()
    assert str(changes("HEAD")) == CHANGES
    assert str(Changes([], [str(n) for n in range(20)])).endswith(f"11 and {20 - MAX_CHANGES} more")


def test_changes_between_commits_are_listed(project):
    change()
    run_git("add", "pipeline", "params.yaml", "metrics", "dvc.lock")
    run_git("commit", "-q", "-m", "next")
    Path("params.yaml").write_text("model:\n  num_hidden: 99\n")
    assert str(changes("HEAD~1", "HEAD")) == CHANGES


def test_the_patch_turns_the_baseline_into_the_code_that_ran(project, tmp_path):
    """Results and notes stay out of it; code that Git does not know yet is in it."""
    change()
    patch = patch_since("HEAD")
    assert b"private" not in patch
    run_git("clone", "-q", str(project), str(tmp_path / "clone"))
    subprocess.run(["git", "apply", "-"], cwd=tmp_path / "clone", input=patch, check=True)
    for name in ("params.yaml", "pipeline/code.py", "pipeline/new.py"):
        assert (tmp_path / "clone" / name).read_bytes() == Path(name).read_bytes()
    assert (tmp_path / "clone/metrics/train.json").read_text() == "{}"


def test_the_users_git_settings_do_not_change_the_patch(project, tmp_path):
    for setting in ("diff.noprefix", "diff.mnemonicPrefix"):
        run_git("config", setting, "true")
    run_git("config", "color.ui", "always")
    run_git("config", "diff.external", "false")
    change()
    Path("pipeline/généré.py").write_text("c = 3\n")
    run_git("clone", "-q", str(project), str(tmp_path / "clone"))
    subprocess.run(["git", "apply", "-"], cwd=tmp_path / "clone", input=patch_since("HEAD"), check=True)
    assert (tmp_path / "clone/pipeline/généré.py").read_text() == "c = 3\n"
    assert "pipeline/généré.py" in changes("HEAD").files


def test_new_code_makes_the_tree_unclean(project):
    assert git_state().clean
    git_state.cache_clear()
    Path("notes.txt").write_text("x")
    assert git_state().clean
    git_state.cache_clear()
    Path("pipeline/new.py").write_text("b = 1\n")
    assert not git_state().clean


def test_long_params_are_cut_to_mlflows_limit(project):
    Path("params.yaml").write_text(f"generate:\n  prompts: [{'x' * 6000}]\n")
    assert len(execution_here().params()["generate.prompts"]) == 5000


def test_an_experiment_has_its_baseline_as_a_tag(project, monkeypatch):
    head = git("rev-parse", "HEAD").strip()
    change()
    monkeypatch.setenv("DVC_EXP_NAME", "wider")
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", head)
    execution = execution_here()
    assert execution.name == "wider"
    assert execution.tags["dvc.baseline"] == execution.tags["git.commit"] == head
    assert execution.tags["git.clean"] == "false"
    assert execution.tags["charlm.changed"] == CHANGES
    assert execution.params() == {"model.num_hidden": "12", "model.cell": "lstm", "model.deep": "1"}


def test_outside_of_git_there_is_no_baseline(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    git_state.cache_clear()
    Path("params.yaml").write_text("model: {}\n")
    execution = execution_here()
    assert execution.tags["git.commit"] == execution.tags["dvc.baseline"] == ""
    assert execution.patch == b""
    git_state.cache_clear()


def test_the_environment_is_what_bytes_may_depend_on():
    found = environment()
    assert set(found) == {"python", "system", "processor", "packages"}
    assert found["packages"]["torch"]


@pytest.mark.parametrize(
    "change",
    [
        {"seconds": []},
        {"seconds": {"train": "long"}},
        {"seconds": {"nothing": 1.0}},
        {"published": "train"},
        {"published": ["nothing"]},
        {"tags": {"a": 1}},
        {"live_step": "x"},
        {"unsent": "../.."},
        {"run_id": 5},
        {"registered": []},
    ],
)
def test_a_session_of_wrong_types_is_started_anew(tmp_path, change):
    path = tmp_path / "session.json"
    Session(key="k", path=path, run_id="r", seconds={"train": 1.0}, published=["train"]).save()
    assert Session.read(path).published == ["train"]
    write_json(path, read_json(path) | change)
    assert Session.read(path) is None

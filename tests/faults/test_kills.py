"""SIGKILL at random moments in every stage: `dvc repro` then finishes, with the bytes of a run that nothing disturbed.

CHARLM_FAULT_SEED sets the seed of the moments, CHARLM_FAULT_KILLS the number of kills for each stage.
"""

import json
import os
import random
import signal
import subprocess
import time

import pytest
import voluptuous
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from ruamel.yaml import YAML, YAMLError
from support.projects import STAGES, Project

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

KILLS = int(os.environ.get("CHARLM_FAULT_KILLS") or 2)
# Files that contain times.
TIMED = {"plots/train.csv", "metrics/train.json", "metrics/summary.json"}
FOLDERS = ("data", "models", "samples", "metrics", "plots", "reports")


def outputs(project):
    found = {
        str(path.relative_to(project.folder)): path.read_bytes()
        for folder in FOLDERS
        for path in (project.folder / folder).rglob("*")
        if path.is_file()
    }
    return {name: content for name, content in found.items() if name not in TIMED}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Return a project in which everything has run once, its outputs, each stage's seconds, and dvc.lock."""
    project = Project(tmp_path_factory.mktemp("kills"))
    params = project.folder / "params.yaml"
    text = params.read_text().replace("threads: 0", "threads: 1")
    # A checkpoint after each update, so that a killed training resumes from one.
    params.write_text(text.replace("checkpoint_seconds: 30", "checkpoint_seconds: 0.001"))
    project.commit("one thread")
    project.run("dvc", "repro")
    seconds = {}
    real = project.environment()["PATH"]  # as in `kill_during`, not in forks
    for stage in STAGES:
        started = time.monotonic()
        project.run("dvc", "repro", "--force", "--single-item", "--no-run-cache", stage, PATH=real)
        seconds[stage] = time.monotonic() - started
    return project, outputs(project), seconds, (project.folder / "dvc.lock").read_bytes()


def repair_lock(project, lock):
    """Do what docs/reliability.md says, if DVC was killed while it wrote one of its files, which it does in place."""
    path = project.folder / "dvc.lock"
    try:
        COMPILED_LOCKFILE_SCHEMA(YAML(typ="safe").load(path))
    except (YAMLError, voluptuous.Invalid):
        path.write_bytes(lock)
    running = project.folder / ".dvc/tmp/rwlock"
    try:
        json.loads(running.read_text(encoding="utf-8"))
    except FileNotFoundError:
        pass
    except ValueError:
        running.unlink()


def kill_during(project, stage, after):
    """Run a stage again, and kill it with all of its processes after some seconds; return whether it still ran."""
    command = ["dvc", "repro", "--force", "--single-item", "--no-run-cache", stage]
    running = subprocess.Popen(
        command,
        cwd=project.folder,
        env=project.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        running.wait(after)
    except subprocess.TimeoutExpired:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        return True
    return False


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_stage_is_repeated_with_the_same_bytes(undisturbed, stage, seed):
    project, expected, seconds, lock = undisturbed
    chance = random.Random(f"{seed} {stage}")
    killed = 0
    for number in range(KILLS):
        # Much of the time is spent on starting dvc and Python, so late moments are more interesting.
        moment = seconds[stage] * chance.triangular(0.1, 1.0, 0.8)
        killed += kill_during(project, stage, moment)
        repair_lock(project, lock)
        # DVC's run cache would restore what was killed. Without it, the stage runs again.
        project.run("dvc", "repro", *(["--no-run-cache"] if number % 2 else []))
        found = outputs(project)
        what = f"killed after {moment:.2f} s"
        assert found.keys() == expected.keys(), what
        assert [name for name in expected if found[name] != expected[name]] == [], what
        assert not [path for path in project.folder.rglob("*.part") if ".git" not in path.parts], what
    print(f"{stage}: {KILLS} kills, {killed} while it ran")

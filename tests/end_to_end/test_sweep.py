"""Sweeps with the real DVC, MLflow and workers: in parallel, killed, interrupted, without MLflow, on Ray, applied."""

import importlib.util
import json
import re
import shlex
import signal
import subprocess
import time

import psutil
import pytest
from mlflow import MlflowClient
from support.projects import Project

SWEEP = """# Rates
trials: 3
sampler: random
search:
  train.optimizer.lr: {low: 0.002, high: 0.03, log: true}
  model.num_hidden: {low: 8, high: 16}
"""
# Trials of some seconds, with which something may happen meanwhile.
LONG = ["-S", "train.epochs=6", "-S", "train.evals_per_epoch=4", "-S", "train.threads=1"]
pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "rates.yaml").write_text(SWEEP)
    return Project(folder)


def begin(project, *options, **variables):
    return subprocess.Popen(
        ["charlm", "sweep", "rates.yaml", *options],
        cwd=project.folder,
        env=project.environment() | {"PYTHONUNBUFFERED": "1"} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def read_until(process, pattern):
    """Return the output up to a line that contains the pattern."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if re.search(pattern, line):
            return lines
    raise AssertionError("".join(lines))


def trial_lines(output):
    """Return the values of each trial that ended, by its number."""
    return dict(re.findall(r"^(\d{4})  .*? s  (lr \S+  num_hidden \d+)", output, re.MULTILINE))


def wait_for_end(processes):
    _, alive = psutil.wait_procs(processes, timeout=30)
    assert not alive, alive


def test_a_sweep_in_parallel_gives_runs_and_its_best_becomes_an_experiment(project):
    """The winner's perplexity is the one that the pipeline measures with its params."""
    output = project.run("charlm", "sweep", "rates.yaml", "--jobs", "2", "-S", "train.seed=3", "--apply")
    assert len(trial_lines(output)) == 3
    runs, count = project.runs()
    assert count == 5  # of the sweep, its trials, and the experiment
    names = [f"rates-{number:04}" for number in (1, 2, 3)]
    (parent,) = [run for name, run in runs.items() if re.fullmatch(r"rates-[0-9a-f]{8}", name)]
    perplexities = {name: runs[name].data.metrics["evaluate/perplexity"] for name in names}
    best = min(perplexities, key=perplexities.get)
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["sweep/best_perplexity"] == perplexities[best]
    assert f"| {best[-4:]} | {perplexities[best]:.3f} |" in parent.data.tags["mlflow.note.content"]
    store = f"sqlite:///{project.folder}/mlflow.db"
    for name in names:
        assert runs[name].data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert runs[name].info.status == "FINISHED"
        assert runs[name].data.params["train.seed"] == "3"
        curve = MlflowClient(store, store).get_metric_history(runs[name].info.run_id, "train/train_perplexity")
        assert len(curve) > 10

    (command,) = [line for line in output.splitlines() if line.startswith("dvc exp run ")]
    assert "-S train.seed=3 " in command
    assert f"train.optimizer.lr={runs[best].data.params['train.optimizer.lr']}" in command
    figures = json.loads((project.folder / "metrics/summary.json").read_text())
    assert figures["perplexity"] == pytest.approx(perplexities[best], rel=1e-6)
    refs = project.git("for-each-ref", "--format=%(refname)", "refs/exps").splitlines()
    assert len([ref for ref in refs if not ref.startswith("refs/exps/exec/")]) == 1
    project.reset()


def test_a_killed_sweep_resumes_with_the_same_command(project):
    process = begin(project, "--name", "killed", *LONG)
    before = "".join(read_until(process, r"^0001  "))
    time.sleep(1)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert workers
    process.kill()
    process.wait()
    process.stdout.close()
    wait_for_end(workers)
    output = project.run("charlm", "sweep", "rates.yaml", "--name", "killed", *LONG)
    assert "1 of 3 trials done" in output
    assert "1 more run in another process, or are repeated if it was killed" in output
    after = trial_lines(output)
    assert "0001" not in after
    assert len({*after.values(), *trial_lines(before).values()}) == len(after) + 1 == 3
    # The trials are those of a sweep that nobody disturbed, and more can be had.
    whole = project.run("charlm", "sweep", "rates.yaml", "--name", "whole", *LONG)
    assert {*trial_lines(whole).values()} == {*after.values(), *trial_lines(before).values()}
    more = project.run("charlm", "sweep", "rates.yaml", "--name", "whole", "--trials", "4", *LONG)
    assert list(trial_lines(more)) == ["0004"]


def test_an_interrupted_sweep_ends_its_workers_and_resumes(project):
    process = begin(project, "--name", "stopped", "--jobs", "2", *LONG)
    before = read_until(process, r"^000\d  ")
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) >= 2
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 130, rest
    assert rest.splitlines()[-1] == "sweep: interrupted; the same command resumes it"
    assert "Traceback" not in "".join(before) + rest
    wait_for_end(workers)
    output = project.run("charlm", "sweep", "rates.yaml", "--name", "stopped", "--jobs", "2", *LONG)
    assert " of 3 trials done" in output
    assert len({*trial_lines("".join(before) + rest).values(), *trial_lines(output).values()}) == 3
    runs, _ = project.runs()
    (parent,) = [run for name, run in runs.items() if re.fullmatch(r"stopped-[0-9a-f]{8}", name)]
    assert parent.info.status == "FINISHED"


def test_results_reach_mlflow_once_it_is_reachable_again(project):
    options = ["--name", "unsent", "-S", "train.threads=1"]
    output = project.run("charlm", "sweep", "rates.yaml", *options, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert output.count("warning: MLflow lacks the trials (") == 1
    assert len(trial_lines(output)) == 3
    assert not [name for name in project.runs()[0] if name.startswith("unsent")]
    again = project.run("charlm", "sweep", "rates.yaml", *options)
    assert "3 of 3 trials done" in again
    assert not trial_lines(again)
    runs, _ = project.runs()
    sent = sorted(name for name in runs if name.startswith("unsent-000"))
    assert sent == ["unsent-0001", "unsent-0002", "unsent-0003"]
    count = len(runs)
    project.run("charlm", "sweep", "rates.yaml", *options)
    assert len(project.runs()[0]) == count


@pytest.mark.ray
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'charlm[ray]'")
def test_trials_on_ray_are_those_of_local_workers(project):
    environment = {"RAY_USAGE_STATS_ENABLED": "0"}
    local = project.run("charlm", "sweep", "rates.yaml", "--name", "local", "--jobs", "2", "-S", "train.threads=1")
    output = project.run(
        "charlm",
        "sweep",
        "rates.yaml",
        "--name",
        "ray",
        "--ray",
        "--cpus",
        "0.5",
        "-S",
        "train.threads=1",
        **environment,
    )
    assert trial_lines(output) == trial_lines(local)
    assert shlex.split(output.strip().splitlines()[-1]) == shlex.split(local.strip().splitlines()[-1])
    runs, _ = project.runs()
    for number in ("0001", "0002", "0003"):
        found = [runs[f"{name}-{number}"].data.metrics["evaluate/perplexity"] for name in ("local", "ray")]
        assert found[0] == found[1]
    refused = project.run("charlm", "sweep", "rates.yaml", "--ray", "--gpus", "99", expect=2, **environment)
    assert re.fullmatch(r"error: --gpus: found 99, allowed is at most \d+, the largest node's\n", refused)

"""Whole sweeps of fake trials: pruned, failed, parallel, killed and resumed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from sweeping.fakes import FakeTrials

from pipeline.core.errors import UserError
from pipeline.sweeping.definition import load_sweep
from pipeline.sweeping.runner import run_sweep

SCRIPT = Path(__file__).with_name("sweeping_process.py")


def sweep(folder, *options, trials=6, jobs=1):
    definition = load_sweep(folder / "sweep.yaml", options, trials)
    run_sweep(definition, FakeTrials(folder, folder / "results"), label="s", jobs=jobs)


def results(folder):
    return {path.name: float(path.read_text()) for path in (folder / "results").iterdir()}


def starts(folder):
    lines = (folder / "started.txt").read_text().splitlines()
    return [(name, int(pid), float(at)) for name, pid, at in map(str.split, lines)]


def test_a_sweep_prints_its_trials_the_best_and_its_command(folder, capsys):
    sweep(folder, "train.seed=3")
    output = capsys.readouterr().out
    lines = output.splitlines()
    assert lines[0] == "sweep s: 6 trials"
    assert sum(" s  lr " in line for line in lines) == 6
    best = min(results(folder), key=results(folder).get)
    table = next(number for number, line in enumerate(lines) if line.startswith("experiment"))
    assert lines[table + 1].split()[:2] == [best, f"{results(folder)[best]:.3f}"]
    assert lines[-1].startswith("dvc exp run -S train.epochs=1 -S train.seed=3 -S train.optimizer.lr=")
    sweep(folder, "train.seed=3")
    assert capsys.readouterr().out.splitlines()[-1] == lines[-1]
    assert len(starts(folder)) == 6
    sweep(folder, "train.seed=3", trials=7)
    assert len(starts(folder)) == 7


@pytest.mark.slow
def test_hopeless_trials_are_pruned(folder, capsys, monkeypatch):
    monkeypatch.setenv("FAKE_PATIENCE", "60")
    sweep(folder, trials=9)
    pruned = [line for line in capsys.readouterr().out.splitlines() if " pruned at " in line]
    assert pruned
    assert len(results(folder)) == 9 - len(pruned)
    for name in ("0005", "0006"):
        assert (folder / f".charlm/sweeps/s/{name}.jsonl").exists()


def test_a_diverging_training_is_reported_and_does_not_stop_the_sweep(folder, capsys):
    text = (folder / "sweep.yaml").read_text().replace("0.001, high: 0.03", "0.04, high: 0.5")
    (folder / "sweep.yaml").write_text(text)
    with pytest.raises(UserError, match="sweep s: no trial has a result; their logs are in"):
        sweep(folder, trials=4)
    output = capsys.readouterr().out
    assert output.count("diverged") == 4
    assert output.count("train: the loss is 120 per character at update 3") == 4


def test_failures_in_a_row_stop_the_sweep_and_do_not_count(folder, capsys):
    with pytest.raises(UserError, match=r"sweep: 3 trials in a row failed, the last with: text\.txt: no such file"):
        sweep(folder, "data.encoding=latin-1")
    assert len(starts(folder)) == 3
    with pytest.raises(UserError, match="3 trials in a row"):
        sweep(folder, "data.encoding=latin-1")
    assert len({name for name, *_ in starts(folder)}) == 6
    assert results(folder) == {}


@pytest.mark.slow
def test_jobs_run_in_parallel(folder, monkeypatch):
    monkeypatch.setenv("FAKE_SECONDS", "2")
    began = time.monotonic()
    sweep(folder, trials=4, jobs=4)
    assert time.monotonic() - began < 7
    assert len(results(folder)) == 4
    at = [at for *_, at in starts(folder)]
    assert max(at) - min(at) < 2


def test_an_exhausted_space_ends_the_sweep(folder, capsys):
    (folder / "sweep.yaml").write_text("search: {train.optimizer.lr: {choices: [0.008, 0.01, 0.02]}}")
    sweep(folder, jobs=2)
    assert len(results(folder)) == 3
    assert "the search space is exhausted" in capsys.readouterr().out


def test_a_taken_or_invalid_name_is_refused(folder):
    (folder / "results/s-0001").write_text("5")
    with pytest.raises(UserError, match=r"--name: found s, but the experiment s-0001 exists; allowed is another name"):
        sweep(folder)
    with pytest.raises(UserError, match=r"--name: found 'a/b', allowed are up to 61 letters"):
        run_sweep(load_sweep(folder / "sweep.yaml", [], 1), FakeTrials(folder, folder), label="a/b", jobs=1)


def begin(folder, trials, jobs, seconds):
    places = os.pathsep.join([str(SCRIPT.parent), str(SCRIPT.parents[2])])
    return subprocess.Popen(
        [sys.executable, SCRIPT, str(trials), str(jobs)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"FAKE_SECONDS": str(seconds), "PYTHONPATH": places},
    )


def wait_for_starts(folder, count):
    deadline = time.monotonic() + 60
    while not (folder / "started.txt").exists() or len(starts(folder)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def runs(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.mark.slow
def test_a_sweep_resumes_after_its_runner_was_killed(folder):
    """One trial survives the runner and is watched again; the other dies with it and is repeated."""
    runner = begin(folder, 4, 2, seconds=8)
    wait_for_starts(folder, 2)
    with pytest.raises(UserError, match="sweep: another one is running in this project"):
        sweep(folder)
    runner.kill()
    runner.communicate()
    (alive, alive_pid, _), (lost, lost_pid, _) = starts(folder)
    assert runs(alive_pid)
    os.kill(lost_pid, signal.SIGKILL)
    runner = begin(folder, 4, 2, seconds=0.3)
    output = runner.communicate(timeout=60)[0]
    assert runner.returncode == 0, output
    assert output.startswith("warning: MLflow does not accept the sweep's run: ")
    assert f"{alive} is still running: watching it again" in output
    names = [name for name, *_ in starts(folder)]
    assert names == sorted(set(names))
    assert len(names) == 5
    assert results(folder).keys() == set(names) - {lost}
    logs = {line.split()[0]: line.split("s  lr ")[1] for line in output.splitlines() if "s  lr " in line}
    assert len(logs) == 4
    assert not runs(alive_pid)


@pytest.mark.slow
def test_an_interrupted_runner_ends_its_trials(folder):
    runner = begin(folder, 3, 2, seconds=30)
    wait_for_starts(folder, 2)
    runner.send_signal(signal.SIGINT)
    output = runner.communicate(timeout=60)[0]
    assert (runner.returncode, output.splitlines()[-1]) == (130, "ending 2 running trials")
    assert not [pid for _, pid, _ in starts(folder) if runs(pid)]
    runner = begin(folder, 3, 2, seconds=0.3)
    assert runner.wait(60) == 0
    assert len(results(folder)) == 3
    assert len(starts(folder)) == 5


def test_a_trial_that_was_measured_otherwise_ends_the_sweep(folder, monkeypatch):
    sweep(folder, trials=1)
    monkeypatch.setenv("FAKE_MEASUREMENT", '{"window": 100, "eval_sha256": "other"}')
    with pytest.raises(UserError, match=r"s-0002 cannot be compared with the trials before it: eval text None"):
        sweep(folder, trials=2)
    monkeypatch.setenv("FAKE_MEASUREMENT", "null")
    with pytest.raises(UserError, match=r"s-0003 cannot be compared .* no record of how it was measured"):
        sweep(folder, trials=2)
    monkeypatch.delenv("FAKE_MEASUREMENT")
    sweep(folder, trials=2)

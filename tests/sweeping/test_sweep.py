"""Whole sweeps of trials that take no time, in this process: proposals, output, pruning, failures, resuming."""

import math
import time
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import optuna
import pytest
from optuna.trial import TrialState
from support.postgresql import BINARIES, postgresql

from pipeline.core.errors import UserError
from pipeline.core.where import WorkerLostError, WorkerPool
from pipeline.sweeping import sweep as sweeping
from pipeline.sweeping.definition import load_sweep
from pipeline.sweeping.output import FOUND
from pipeline.sweeping.sweep import open_study, run_sweep
from pipeline.sweeping.trial import Progress


class FakeWorker:
    """The perplexity grows with the distance of lr from 0.01. The curve has four points."""

    started: ClassVar = []

    def step(self, job):
        if job is not None:
            params, _ = job
            self.lr, self.point = params["train"]["optimizer"]["lr"], 0
            self.started.append((self.lr, params["model"]["num_hidden"]))
        return self.answer()

    def answer(self):
        self.point += 1
        perplexity = 4 + 5 * abs(math.log10(self.lr / 0.01))
        if self.point > 4:
            return Progress([], perplexity, seconds=1.5)
        return Progress([{"step": self.point, "seconds": 0.1, "epoch": self.point / 4, "eval_perplexity": perplexity}])

    def kill(self):
        pass


@pytest.fixture(autouse=True)
def _started():
    FakeWorker.started.clear()


def sweep(folder, *options, trials=6, jobs=1, worker=FakeWorker, label="s"):
    definition = load_sweep(folder / "sweep.yaml", options, trials)
    return run_sweep(definition, WorkerPool(worker), label=label, jobs=jobs, url=None)


def trials_of(folder, *options, label="s"):
    definition = load_sweep(folder / "sweep.yaml", options, None)
    with open_study(None, definition, f"{label}-{definition.identity(['data'])}") as study:
        return study.get_trials()


def replace(folder, old, new):
    text = (folder / "sweep.yaml").read_text()
    assert old in text
    (folder / "sweep.yaml").write_text(text.replace(old, new))


def test_a_sweep_prints_its_trials_and_returns_the_best(folder, capsys):
    best = sweep(folder)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("sweep s-")
    assert lines[0].endswith(": 0 of 6 trials done")
    assert sum(" s  lr " in line for line in lines) == 6
    (warning,) = [line for line in lines if line.startswith("warning: ")]
    assert warning.startswith(
        "warning: MLflow lacks the trials (MLFLOW_TRACKING_URI: http://127.0.0.1:9 does not answer"
    )
    assert warning.endswith("; this command, run again, sends them")
    assert best["train.optimizer.lr"] == min(
        (lr for lr, _ in FakeWorker.started), key=lambda lr: abs(math.log10(lr / 0.01))
    )
    # Finished trials are not trained again, and more are possible.
    assert sweep(folder) == best
    assert capsys.readouterr().out.splitlines()[0].endswith(": 6 of 6 trials done")
    assert len(FakeWorker.started) == 6
    sweep(folder, trials=7)
    assert len(FakeWorker.started) == 7


def test_the_search_starts_with_the_present_params_and_values_have_types(folder):
    (folder / "sweep.yaml").write_text("""
trials: 8
search:
  train.optimizer.lr: {low: 0.001, high: 0.03, log: true}
  model.num_hidden: {low: 128, high: 448, step: 32}
  model.dropout: {low: 0.0, high: 0.5, step: 0.1}
  model.cell: {choices: [lstm, gru]}
  train.optimizer.beta2: {choices: [0.98, null]}
""")
    sweep(folder, trials=8)
    found = [trial.user_attrs[FOUND]["values"] for trial in trials_of(folder)]
    assert found[0] == {
        "train.optimizer.lr": 0.01,
        "model.num_hidden": 384,
        "model.dropout": 0.0,
        "model.cell": "lstm",
        "train.optimizer.beta2": 0.98,
    }
    for values in found:
        assert isinstance(values["model.num_hidden"], int)
        assert values["model.num_hidden"] % 32 == 0
        assert len(str(values["model.dropout"])) == 3
        assert values["model.cell"] in {"lstm", "gru"}
        assert values["train.optimizer.lr"] == float(f"{values['train.optimizer.lr']:.4g}")
    assert None in [values["train.optimizer.beta2"] for values in found]


def test_hopeless_trials_are_pruned(folder, capsys):
    sweep(folder, trials=9)
    pruned = [trial for trial in trials_of(folder) if trial.state == TrialState.PRUNED]
    assert pruned
    for trial in pruned:
        # From 30 % of the training on, and never at the last point.
        assert 6 <= trial.last_step < 20
        assert trial.number >= 4
    assert capsys.readouterr().out.count(" pruned at ") == len(pruned)


@pytest.mark.parametrize(("sampler", "same"), [("random", 9), ("tpe", 6)])
def test_proposals_do_not_depend_on_the_number_of_workers(folder, sampler, same):
    """All of `random`, and the first ones of TPE, which later follows the results."""
    replace(folder, "trials: 6", f"trials: 9\nsampler: {sampler}")
    sweep(folder, trials=9)
    alone = list(FakeWorker.started)
    assert len(set(alone)) == 9
    FakeWorker.started.clear()
    sweep(folder, trials=9, jobs=3, label="again")
    assert len(set(FakeWorker.started)) == 9
    assert set(alone[:same]) <= set(FakeWorker.started)


def test_a_resumed_sweep_proposes_the_same_trials_as_an_uninterrupted_one(folder):
    sweep(folder, trials=8)
    whole = list(FakeWorker.started)
    FakeWorker.started.clear()
    sweep(folder, trials=3, label="again")
    sweep(folder, trials=8, label="again")
    assert FakeWorker.started == whole


def test_another_seed_proposes_other_trials(folder):
    sweep(folder, trials=3)
    sweep(folder, "train.seed=8", trials=3)
    assert FakeWorker.started[0] == FakeWorker.started[3]  # those of params.yaml
    assert len(set(FakeWorker.started)) == 5


def test_other_params_data_or_space_are_another_study(folder, monkeypatch):
    sweep(folder, trials=1)
    sweep(folder, "train.batch_size=64", trials=1)
    assert len(FakeWorker.started) == 2
    monkeypatch.setattr(sweeping, "prepare_data", lambda: ["other data"])
    sweep(folder, trials=1)
    assert len(FakeWorker.started) == 3
    replace(folder, "0.03", "0.04")
    sweep(folder, trials=1)
    assert len(FakeWorker.started) == 4
    # What changes no result does not matter: threads, the stages after evaluate, and how trials are drawn.
    replace(folder, "trials: 6", "sampler: random")
    params = folder / "params.yaml"
    params.write_text(params.read_text().replace("temperature: 0.8", "temperature: 0.7"))
    sweep(folder, "train.threads=3", trials=1)
    assert len(FakeWorker.started) == 4


def test_a_trial_that_fails_does_not_stop_the_sweep(folder, capsys):
    class Failing(FakeWorker):
        def answer(self):
            if self.lr < 0.003:
                return Progress([], error="train: the loss is nan per character at update 3; lower train.optimizer.lr")
            return super().answer()

    best = sweep(folder, worker=Failing)
    output = capsys.readouterr().out
    assert best["train.optimizer.lr"] >= 0.003
    assert output.count("  failed  ") == output.count("      train: the loss is nan per character at update 3") > 0
    assert len(FakeWorker.started) == 6


def test_a_sweep_in_which_all_trials_fail_says_so(folder):
    class Failing(FakeWorker):
        def answer(self):
            return Progress([], error="RuntimeError: out of memory")

    with pytest.raises(UserError, match=r"sweep s-\w+: no trial has a result"):
        sweep(folder, trials=3, worker=Failing)


def test_a_lost_worker_is_replaced_and_its_trial_is_repeated(folder, capsys):
    class Dying(FakeWorker):
        left = 2

        def answer(self):
            if self.point == 2 and Dying.left:
                Dying.left -= 1
                raise WorkerLostError
            return super().answer()

    sweep(folder, worker=Dying)
    assert len(FakeWorker.started) == 8
    assert len(set(FakeWorker.started)) == 6
    assert sum(trial.state == TrialState.FAIL for trial in trials_of(folder)) == 2
    assert capsys.readouterr().out.count(" s  lr ") == 6


def test_a_trial_that_always_loses_its_worker_has_failed(folder, capsys):
    class Dying(FakeWorker):
        def answer(self):
            if self.lr == 0.01:
                raise WorkerLostError
            return super().answer()

    sweep(folder, trials=3, worker=Dying)
    assert [lr for lr, _ in FakeWorker.started].count(0.01) == 3
    assert "      the worker's process has ended; its memory may have been exhausted" in capsys.readouterr().out


def test_an_interrupted_sweep_repeats_its_trials(folder):
    class Interrupting(FakeWorker):
        def answer(self):
            if len(self.started) == 3:
                pool.close()
                raise WorkerLostError
            return super().answer()

    pool = WorkerPool(Interrupting)
    definition = load_sweep(folder / "sweep.yaml", [], 5)
    with open_study(None, definition, f"s-{definition.identity(['data'])}") as study:
        output = sweeping.Output("s", "s", definition)
        running = sweeping.Sweep(definition, study, pool, output)
        running._optimize(5, 1)
        assert [trial.state for trial in study.trials].count(TrialState.WAITING) == 1
        output.send([], "KILLED", wait=True)
    sweep(folder, trials=5)
    assert len(FakeWorker.started) == 6
    assert FakeWorker.started[2] == FakeWorker.started[3]
    assert len(set(FakeWorker.started)) == 5
    uninterrupted = list(dict.fromkeys(FakeWorker.started))
    FakeWorker.started.clear()
    sweep(folder, trials=5, label="again")
    assert FakeWorker.started == uninterrupted


def test_trials_of_a_killed_sweep_are_repeated(folder, monkeypatch, capsys):
    monkeypatch.setattr(sweeping, "GRACE_SECONDS", 1)
    definition = load_sweep(folder / "sweep.yaml", [], 2)
    with open_study(None, definition, f"s-{definition.identity(['data'])}") as study:
        lost = study.ask()
        values = definition.values(lost)
        study._storage.record_heartbeat(lost._trial_id)
    started = time.monotonic()
    sweep(folder, trials=2)
    assert time.monotonic() - started > 1
    assert "1 more run in another process, or are repeated if it was killed" in capsys.readouterr().out
    assert FakeWorker.started.count((values["train.optimizer.lr"], values["model.num_hidden"])) == 1
    assert [trial.state for trial in trials_of(folder)].count(TrialState.COMPLETE) == 2


def test_an_exhausted_space_ends_the_sweep(folder, capsys):
    (folder / "sweep.yaml").write_text("search: {train.optimizer.lr: {choices: [0.008, 0.01, 0.02]}}")
    sweep(folder, jobs=2)
    assert sorted(lr for lr, _ in FakeWorker.started) == [0.008, 0.01, 0.02]
    assert ": 0 of 3 trials done, all that the space has\n" in capsys.readouterr().out


def test_a_machine_does_not_run_more_trials_than_are_wanted(folder):
    """Another one has started as many meanwhile."""
    definition = load_sweep(folder / "sweep.yaml", [], 2)
    with open_study(None, definition, f"s-{definition.identity(['data'])}") as study:
        running = sweeping.Sweep(definition, study, WorkerPool(FakeWorker), sweeping.Output("s", "s", definition))
        running._optimize(5, 1)
        running.output.send([], "KILLED", wait=True)
    assert len(FakeWorker.started) == 2


def test_a_database_that_cannot_be_used_is_one_line_without_its_password(folder):
    path = folder / ".charlm/sweeps/optuna.db"
    path.write_text("no database, but long enough to be taken for one" * 50)
    with pytest.raises(UserError, match=r"--storage: the sweep's database cannot be used: file is not a database"):
        sweep(folder)
    definition = load_sweep(folder / "sweep.yaml", [], 1)
    for address in ("postgresql://u:secret@127.0.0.1:9/x", "nothing", "nosuch://u:secret@h/x"):
        with pytest.raises(UserError, match="--storage: the sweep's database cannot be used: ") as caught:
            run_sweep(definition, WorkerPool(FakeWorker), label="s", jobs=1, url=address)
        assert "secret" not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_threads_that_start_together_begin_different_waiting_trials(folder):
    definition = load_sweep(folder / "sweep.yaml", [], None)
    with open_study(None, definition, "s") as study, ThreadPoolExecutor(4) as threads:
        for number in range(1, 8):
            study.enqueue_trial({"train.optimizer.lr": number / 1000})
        asked = [threads.submit(study.ask) for _ in range(8)]
        assert sorted(one.result().number for one in asked) == list(range(8))


@pytest.mark.slow
@pytest.mark.end_to_end
@pytest.mark.skipif(not BINARIES, reason="PostgreSQL is not installed: a shared database is not tested")
def test_machines_share_a_sweep_in_a_database(folder, capsys):
    class Slow(FakeWorker):
        def answer(self):
            time.sleep(0.05)
            return super().answer()

    class OfOther(Slow):
        started: ClassVar = []

    definition = load_sweep(folder / "sweep.yaml", [], 10)
    with postgresql("sweeps") as address, ThreadPoolExecutor(2) as machines:
        storage = address.replace("charlm@", "charlm:secret@")
        both = [
            machines.submit(run_sweep, definition, WorkerPool(kind), label="s", jobs=1, url=storage)
            for kind in (Slow, OfOther)
        ]
        best = [one.result(timeout=100) for one in both]
    assert best[0] == best[1]
    assert min(len(Slow.started), len(OfOther.started)) > 1
    assert len(Slow.started) + len(OfOther.started) == len({*Slow.started, *OfOther.started}) == 10
    assert "secret" not in capsys.readouterr().out


def test_optuna_is_silent(folder, capsys, recwarn):
    sweep(folder, trials=2)
    assert capsys.readouterr().err == ""
    assert not [warning for warning in recwarn if issubclass(warning.category, optuna.exceptions.ExperimentalWarning)]

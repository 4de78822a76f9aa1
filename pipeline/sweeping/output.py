"""The output of a sweep: on the terminal, and in MLflow, as a run for the sweep with one under it for each trial."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from mlflow import MlflowClient
from optuna import Study
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.core.errors import one_line
from pipeline.sweeping.definition import Definition
from pipeline.tracking.differences import short_names
from pipeline.tracking.execution import MAX_VALUE, PARENT_TAG
from pipeline.tracking.project import baseline
from pipeline.tracking.publish import curve_metrics, log_metrics, log_params
from pipeline.tracking.records import metric_name
from pipeline.tracking.store import open_store

ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
# The attribute of a trial that ended: its values, seconds, curve, and the reason if it failed.
FOUND = "found"
SHOWN, NOTED = 5, 20
SWEEP_TAG, TRIAL_TAG = "charlm.sweep", "charlm.trial"
# The states of trials that ended: how they are printed, and what MLflow calls them.
STATES = {"done": ("", "FINISHED"), "pruned": ("dim", "KILLED"), "failed": ("red", "FAILED")}


def ranking(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials with a result, the best first."""
    done = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    return sorted(done, key=lambda one: (one.value, one.number))


def state_of(trial: FrozenTrial) -> str:
    """Return whether a trial that ended is done, pruned or failed; one that failed has a reason."""
    unfinished = "failed" if trial.user_attrs[FOUND]["reason"] else "pruned"
    return "done" if trial.state == TrialState.COMPLETE else unfinished


def number_of(trial: FrozenTrial) -> str:
    """Return a trial's number as it is shown, from 0001."""
    return f"{trial.number + 1:04}"


def format_perplexity(trial: FrozenTrial) -> str:
    """Return a trial's perplexity, or its state if it has no result."""
    if trial.state == TrialState.COMPLETE:
        return f"{trial.value:.3f}"
    points = trial.intermediate_values
    return state_of(trial) + (f" at {points[max(points)]:.3f}" if points else "")


class Output:
    """Prints trials to standard output, and sends them to MLflow in a thread: a slow server delays no trial.

    The first failure of MLflow ends the sending. Optuna's storage has the results: the same command sends them later.
    """

    def __init__(self, name: str, label: str, definition: Definition) -> None:
        self._name, self._label, self._definition = name, label, definition
        self._names = short_names(list(definition.search))
        self._header = ["trial", "perplexity", "seconds", *self._names.values()]
        self._console = Console(highlight=False, soft_wrap=True)
        self._pool, self._works = ThreadPoolExecutor(1), True

    def say(self, line: str, style: str = "") -> None:
        """Print a line."""
        self._console.print(escape(line), style=style)

    def ended(self, study: Study, trial: FrozenTrial) -> None:
        """Print the line of a trial that ended, and why it failed, and send it; Optuna calls this."""
        if trial.state not in ENDED:
            return
        trials, reason = study.get_trials(deepcopy=False), trial.user_attrs[FOUND]["reason"]
        number, perplexity, seconds, *values = self._row(trial)
        each = (f"{name} {value}" for name, value in zip(self._names.values(), values, strict=True))
        best = "  best so far" if ranking(trials)[:1] == [trials[trial.number]] else ""
        style = "bold" if best else STATES[state_of(trial)][0]
        self.say(f"{number}  {perplexity:18}  {seconds:>5} s  {'  '.join(each)}{best}", style)
        if reason:
            self.say(f"      {reason}", style)
        self.send(trials, "RUNNING")

    def leaderboard(self, trials: Sequence[FrozenTrial]) -> None:
        """Print the best trials."""
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for column in self._header:
            table.add_column(column, justify="left" if column == "trial" else "right", no_wrap=True)
        for one in ranking(trials)[:SHOWN]:
            table.add_row(*map(escape, self._row(one)))
        self._console.print()
        self._console.print(table)

    def send(self, trials: Sequence[FrozenTrial], status: str, *, wait: bool = False) -> None:
        """Send MLflow what it lacks of `trials`, later; `status` is the sweep's. With `wait`, the last time, now."""
        self._pool.submit(self._try, [trial for trial in trials if trial.state in ENDED], status)
        if wait:
            self._pool.shutdown()

    def _row(self, trial: FrozenTrial) -> list[str]:
        """Return a trial's number, perplexity, seconds and searched values as text."""
        found = trial.user_attrs[FOUND]
        texts = (one if isinstance(one, str) else json.dumps(one) for one in map(found["values"].get, self._names))
        return [number_of(trial), format_perplexity(trial), f"{found['seconds']:.0f}", *texts]

    def _try(self, trials: list[FrozenTrial], status: str) -> None:
        try:
            if self._works:
                self._send(trials, status)
        except Exception as error:  # noqa: BLE001  whatever it is, the sweep continues
            self._works = False
            self.say(f"warning: MLflow lacks the trials ({one_line(error)}); this command, run again, sends them")

    def _send(self, trials: list[FrozenTrial], status: str) -> None:
        with open_store() as (client, experiment_id):
            found = client.search_runs([experiment_id], f"tags.`{SWEEP_TAG}` = '{self._name}'", max_results=50_000)
            runs = {run.data.tags.get(TRIAL_TAG, ""): run.info for run in found}
            tags = {SWEEP_TAG: self._name, "mlflow.source.name": "charlm sweep", "mlflow.source.git.commit": baseline()}
            parent = runs.get("") or client.create_run(experiment_id, run_name=self._name, tags=tags).info
            for trial in trials:
                info = runs.get(number_of(trial))
                if info is None or info.status == "RUNNING":  # a sweep that was killed may have sent a part of it
                    own = tags | {PARENT_TAG: parent.run_id, TRIAL_TAG: number_of(trial)}
                    name, start = f"{self._label}-{number_of(trial)}", _milliseconds(trial.datetime_start)
                    info = info or client.create_run(experiment_id, start, own, name).info
                    self._send_trial(client, info.run_id, trial)
            for best in ranking(trials)[:1]:
                client.log_metric(parent.run_id, "sweep/best_perplexity", best.value, step=len(trials))
            counts = [f"{sum(state_of(trial) == state for trial in trials)} {state}" for state in STATES]
            rows = [self._header, ["---"] * len(self._header), *map(self._row, ranking(trials)[:NOTED])]
            lines = [f"{self._definition.title}: {', '.join(counts)}", "", *(f"| {' | '.join(row)} |" for row in rows)]
            client.set_tag(parent.run_id, "mlflow.note.content", "\n".join(lines))
            (client.update_run if status == "RUNNING" else client.set_terminated)(parent.run_id, status)

    def _send_trial(self, client: MlflowClient, run_id: str, trial: FrozenTrial) -> None:
        end, found = _milliseconds(trial.datetime_complete), trial.user_attrs[FOUND]
        values = self._definition.params(found["values"])
        log_params(client, run_id, {key: str(value)[:MAX_VALUE] for key, value in values.items()})
        curve = [{metric_name("train", key): value for key, value in point.items()} for point in found["curve"]]
        points = [(int(point.pop("train/step")), point.pop("train/seconds"), point) for point in curve]
        log_metrics(client, run_id, curve_metrics(points, end=end) if points else [])
        if trial.state == TrialState.COMPLETE:
            client.log_metric(run_id, metric_name("evaluate", "perplexity"), trial.value, timestamp=end)
        if found["reason"]:
            client.set_tag(run_id, "charlm.error", found["reason"][:MAX_VALUE])
        client.set_terminated(run_id, STATES[state_of(trial)][1], end)


def _milliseconds(moment: datetime | None) -> int:
    return int(moment.timestamp() * 1000) if moment else 0

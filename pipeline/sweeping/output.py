"""The output of a sweep: on the terminal, and its run in MLflow, the parent of its trials' runs."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from mlflow import MlflowClient
from mlflow.entities import LifecycleStage
from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Table

from pipeline.core.errors import one_line
from pipeline.sweeping.definition import Definition
from pipeline.sweeping.space import Choices, Dimension
from pipeline.sweeping.study import Outcome, ranking
from pipeline.tracking.differences import short_names
from pipeline.tracking.execution import PARENT_TAG, PARENT_VARIABLE
from pipeline.tracking.store import open_store

SHOWN = 5
NOTED = 20
STYLES = {"done": "", "pruned": "dim", "diverged": "yellow", "failed": "red"}


class Screen:
    """Prints to standard output; `keys` are the searched params."""

    def __init__(self, keys: Sequence[str]) -> None:
        self.console = Console(highlight=False, soft_wrap=True)
        self._names = short_names(list(keys))
        self._status = Status("", console=self.console) if self.console.is_terminal else None

    def __enter__(self) -> Self:
        if self._status:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status:
            self._status.stop()

    def say(self, line: str) -> None:
        """Print a line."""
        self.console.print(escape(line))

    def ended(self, outcome: Outcome, *, is_best: bool) -> None:
        """Print the line of a trial that ended."""
        values = "  ".join(f"{name} {format_value(outcome.values[key])}" for key, name in self._names.items())
        line = f"{outcome.number:04}  {format_perplexity(outcome):18}  {outcome.seconds:5.0f} s  {values}"
        style = STYLES[outcome.state]
        self.console.print(escape(line + ("  best so far" if is_best else "")), style="bold" if is_best else style)
        if outcome.reason:
            self.console.print(escape(f"      {outcome.reason}"), style=style)

    def progress(self, *, ended: int, wanted: int, running: Mapping[str, float | None]) -> None:
        """Show the number of ended trials, and the last perplexity of each running trial."""
        if self._status:
            each = ", ".join(f"{name} {f'{last:.3f}' if last else '…'}" for name, last in running.items())
            self._status.update(f"{ended} of {wanted} trials" + (f"   running: {each}" if each else ""))

    def leaderboard(self, label: str, outcomes: list[Outcome]) -> None:
        """Print the best trials."""
        best = ranking(outcomes)[:SHOWN]
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for column in ("experiment", "perplexity", "seconds", *self._names.values()):
            table.add_column(column, justify="left" if column == "experiment" else "right", no_wrap=True)
        for one in best:
            values = [format_value(one.values[key]) for key in self._names]
            table.add_row(
                f"{label}-{one.number:04}", format_perplexity(one), f"{one.seconds:.0f}", *map(escape, values)
            )
        self.console.print()
        self.console.print(table)


def format_value(value: Any) -> str:
    """Return a param's value as readable text."""
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value)


def format_perplexity(outcome: Outcome) -> str:
    """Return a trial's perplexity, or its state if it has no result."""
    perplexity = "" if outcome.perplexity is None else f"{outcome.perplexity:.3f}"
    if outcome.state == "done":
        return perplexity
    return f"{outcome.state} at {perplexity}" if perplexity and outcome.state != "failed" else outcome.state


def note(definition: Definition, outcomes: list[Outcome]) -> str:
    """Return the description of the sweep's MLflow run, in Markdown."""
    names = short_names(list(definition.search))
    lines = [definition.title, "", "| param | searched |", "| --- | --- |"]
    lines += [f"| {key} | {_format_dimension(dimension)} |" for key, dimension in definition.search.items()]
    ended = {state: sum(one.state == state for one in outcomes) for state in ("done", "pruned", "diverged", "failed")}
    counts = ", ".join(f"{count} {state}" for state, count in ended.items() if count) or "none yet"
    lines += ["", f"Trials: {counts}; {definition.trials} wanted.", ""]
    if best := ranking(outcomes)[:NOTED]:
        lines += [f"| trial | perplexity | {' | '.join(names.values())} |", f"| --- | --- |{' --- |' * len(names)}"]
        for one in best:
            values = " | ".join(format_value(one.values[key]) for key in names)
            lines.append(f"| {one.number:04} | {one.perplexity:.3f} | {values} |")
    return "\n".join(lines)


def _format_dimension(dimension: Dimension) -> str:
    if isinstance(dimension, Choices):
        return ", ".join(format_value(choice) for choice in dimension.choices)
    step = f", step {format_value(dimension.step)}" if dimension.step is not None else ""
    return f"{format_value(dimension.low)} to {format_value(dimension.high)}{', log' if dimension.log else ''}{step}"


class ParentRun:
    """The MLflow run of sweep `label`; `run_id` is the run to resume, if the sweep was started before.

    If MLflow fails, that is reported once and then ignored, since the sweep can do without it.
    """

    def __init__(self, label: str, run_id: str | None, *, warn: Callable[[str], None]) -> None:
        self.label = label
        self.run_id = run_id
        self._warn = warn
        self._works = True

    def environment(self) -> dict[str, str]:
        """Return the environment variables that make this run the parent of the trials' runs."""
        return {PARENT_VARIABLE: self.run_id} if self.run_id else {}

    def open(self) -> None:
        """Set the run's status to running; creates the run if there is none."""

        def open_or_create(client: MlflowClient, experiment_id: str) -> None:
            found = client.search_runs([experiment_id], f"tags.`charlm.sweep` = '{self.label}'")
            if self.run_id in {run.info.run_id for run in found if run.info.lifecycle_stage == LifecycleStage.ACTIVE}:
                client.update_run(self.run_id, status="RUNNING")
                return
            tags = {"charlm.sweep": self.label, "mlflow.source.name": "charlm sweep"}
            self.run_id = str(client.create_run(experiment_id, run_name=self.label, tags=tags).info.run_id)

        self._do(open_or_create)

    def update(self, note: str, best: float | None, *, step: int) -> None:
        """Replace the description (Markdown), and log the best perplexity so far, if there is one."""

        def write(client: MlflowClient, _: str) -> None:
            client.set_tag(self.run_id, "mlflow.note.content", note)
            if best is not None:
                client.log_metric(self.run_id, "sweep/best_perplexity", best, step=step)

        self._do(write)

    def mark_killed(self, name: str, *, pruned: bool) -> None:
        """Set the run of experiment `name` to killed, and tag it if the sweep has pruned it."""

        def mark(client: MlflowClient, experiment_id: str) -> None:
            wanted = f"tags.`dvc.experiment` = '{name}' and tags.`{PARENT_TAG}` = '{self.run_id}'"
            for run in client.search_runs([experiment_id], wanted):
                if pruned:
                    client.set_tag(run.info.run_id, "charlm.pruned", "true")
                client.set_terminated(run.info.run_id, status="KILLED")

        self._do(mark)

    def end(self, status: str) -> None:
        """End the run with an MLflow status."""
        self._do(lambda client, _: client.set_terminated(self.run_id, status=status))

    def _do(self, action: Callable[[MlflowClient, str], None]) -> None:
        if not self._works:
            return
        try:
            with open_store() as (client, experiment_id):
                action(client, experiment_id)
        except Exception as error:  # noqa: BLE001  whatever it is, the sweep continues
            self._works = False
            self._warn(f"warning: MLflow does not accept the sweep's run: {one_line(error)}")

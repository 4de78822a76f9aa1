"""The output of a sweep: a line for each ended trial, a live status on a terminal, the leaderboard, MLflow's note."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Self

from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Table

from pipeline.sweeping.definition import Definition
from pipeline.sweeping.space import Choices, Dimension
from pipeline.sweeping.study import Outcome, ranking
from pipeline.tracking.differences import short_names

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

"""What a person sees of a running sweep: a line for each trial that ended, and on a terminal how the others stand."""

from collections.abc import Mapping, Sequence
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Table

from pipeline.sweeping.command import figure, shown
from pipeline.sweeping.runner import Outcome, ranking
from pipeline.tracking.execution import short_names

SHOWN = 5
STYLES = {"done": "", "pruned": "dim", "diverged": "yellow", "failed": "red"}


class Screen:
    """Prints to standard output; `keys` are the params that the trials differ in."""

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
        values = "  ".join(f"{name} {shown(outcome.values[key])}" for key, name in self._names.items())
        line = f"{outcome.number:04}  {figure(outcome):18}  {outcome.seconds:5.0f} s  {values}"
        style = STYLES[outcome.state]
        self.console.print(escape(line + ("  best so far" if is_best else "")), style="bold" if is_best else style)
        if outcome.reason:
            self.console.print(escape(f"      {outcome.reason}"), style=style)

    def progress(self, *, ended: int, wanted: int, running: Mapping[str, float | None]) -> None:
        """Show how many trials have ended, and how those that run stand."""
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
            values = [shown(one.values[key]) for key in self._names]
            table.add_row(f"{label}-{one.number:04}", figure(one), f"{one.seconds:.0f}", *map(escape, values))
        self.console.print()
        self.console.print(table)

"""The tables that `charlm corpus` prints: what a source holds, the split that was tried, the params that suit it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from pipeline.corpus.advice import Advice
    from pipeline.corpus.survey import Survey
    from pipeline.dataset.trial import Trial

MOST_SHOWN = 100
# Up to how many seconds a duration is shown in seconds, and up to how many in minutes.
SECONDS, MINUTES = 100, 6000
NAMES_OF_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars", ",": "commas"}


def survey_table(
    found: "Survey",
    trial: "Trial | None",
    seconds: tuple[float, float] | None,
    separators: Mapping[str, str],
    *,
    busy: str | None = None,
) -> Table:
    """Return the table of what was found; `seconds` are those of an epoch, at least and at most.

    `busy` says why they may be too many.
    `separators` has what separates the cells of CSV files that are not what their ending says, by the files' names.
    """
    from pipeline.corpus.survey import RARE  # numba: not for --help

    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", min_width=18)
    table.add_column(overflow="fold")
    _documents(table, found, separators)
    for name, characters, about in (
        ("alphabet", found.alphabet, ""),
        ("rare", found.rare, f", each under {RARE} times"),
    ):
        shown = Text(f"{len(characters):,} characters{about}  ").append(_printable(characters), style="bold")
        table.add_row(name, shown if characters else "none")
    for number, (script, count) in enumerate(found.scripts()):
        table.add_row("scripts" if not number else "", f"{count / found.characters:6.2%}  {script}")
    if trial is not None:
        table.add_row("the split", ", ".join(f"{name} {chars:,} characters" for name, chars in trial.chars.items()))
        for name, share in trial.overlap.items():
            table.add_row("overlap", f"[bold]{_percent(share)}[/] of the {name} text also occurs in train")
    if seconds is not None:
        note = f" ({busy})" if busy else ""
        table.add_row("an epoch takes", f"[bold]{_range(*seconds)}[/] with the model and train of params.yaml{note}")
    return table


def advice_table(advice: Sequence["Advice"]) -> Table:
    """Return the table of what to set, with reasons."""
    table = Table.grid(padding=(0, 2))
    for one in advice:
        table.add_row(Text(f"{one.key}={one.value}", style="cyan"), Text(one.why))
    return table


def problem_line(problem: str) -> Text:
    """Return the line that says why the command would stop."""
    return Text("\nno split was found that passes: ", style="bold").append(
        f"{problem}. The command below stops in split or validate.", style="not bold"
    )


def _documents(table: Table, found: "Survey", separators: Mapping[str, str]) -> None:
    import numpy as np  # not for --help

    lengths = found.document_lengths
    low, middle, high = (int(value) for value in np.percentile(lengths, [5, 50, 95]))
    table.add_row("documents", f"[bold]{found.documents:,}[/]")
    if separators:
        kinds = sorted(set(separators.values()))
        names = " or ".join(NAMES_OF_SEPARATORS[kind] for kind in kinds)
        files = "" if len(separators) == 1 else f", in {len(separators):,} files"
        table.add_row("separated by", f"{names}{files}")
    if found.documents > 1:
        spread = f"{lengths.min():,} to {lengths.max():,} characters; 90 % {low:,} to {high:,}, median {middle:,}"
        table.add_row("their lengths", spread)
    table.add_row("characters", f"[bold]{found.characters:,}[/]")
    where = f", in {escape(found.longest_line_in)}" if found.documents > 1 else ""
    table.add_row("lines", f"{found.lines:,}, the longest of {found.longest_line:,} characters{where}")
    share = found.duplicate_characters / found.characters
    duplicates = f"{found.duplicates:,} documents repeat an earlier one, {share:.1%} of the characters"
    table.add_row("duplicates", duplicates if found.duplicates else "none")


def _printable(characters: str) -> str:
    shown = "".join(char for char in characters if char.isprintable() and not char.isspace())
    return shown[:MOST_SHOWN] + (" …" if len(shown) > MOST_SHOWN else "")


def _percent(share: float) -> str:
    return f"{share:.2%}" if share < 0.1 else f"{share:.0%}"  # noqa: PLR2004  two digits either way


def _range(low: float, high: float) -> str:
    """Return two durations in the unit of the longer one: "2 to 3 min", or "about 2 min" if they round to the same."""
    unit, name = (1, "s") if high < SECONDS else (60, "min") if high < MINUTES else (3600, "h")
    digits = 0 if high / unit >= 2 else 1  # noqa: PLR2004  "0.3 to 0.4 s" says more than "0 s"
    ends = [f"{value / unit:.{digits}f}" for value in (low, high)]
    return f"about {ends[0]} {name}" if ends[0] == ends[1] else f"{ends[0]} to {ends[1]} {name}"

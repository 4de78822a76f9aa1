"""`charlm corpus`: what a source holds, before one trains on it, and which params suit it."""

import json
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from pipeline.errors import UserError
from pipeline.params.data import DataParams
from pipeline.params.groups import GROUPS
from pipeline.params.model import ModelParams
from pipeline.params.reader import PARAMS_FILE, parse_group, parse_value, read_groups, read_yaml
from pipeline.params.train import TrainParams

if TYPE_CHECKING:
    from pipeline.corpus.advice import Advice
    from pipeline.corpus.survey import Survey

MOST_SHOWN = 100
STREAM_BUCKET = 32
# What is shown in seconds, and what in minutes.
SECONDS, MINUTES = 100, 6000


def corpus(
    source: Annotated[str | None, typer.Argument(help="As data.source; without it, that of params.yaml.")] = None,
    set_params: Annotated[
        list[str] | None, typer.Option("-S", "--set-param", help="Another value of data: -S data.text_column=tweet.")
    ] = None,
    *,
    time: Annotated[bool, typer.Option(help="Measure how long an epoch will take (some seconds).")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="The figures, as one JSON object.")] = False,
) -> None:
    """Show what a source holds, suggest params for it, and say how long an epoch will take."""
    from pipeline.corpus.advice import advise  # numba and pyarrow: not for --help
    from pipeline.corpus.reading import open_documents
    from pipeline.corpus.survey import survey
    from pipeline.tracking.project import project_root, state_folder
    from pipeline.tracking.throughput import throughput

    params = _data(source, set_params or [])
    with throughput("corpus", None) as read:
        opened = open_documents(params, root=project_root(), cache=state_folder() / "downloads", read=read)
        found = survey(opened)
    if not found.characters:
        raise UserError(f"data.source: {params.source}: holds no text; allowed is at least one character")
    advice = advise(found)
    seconds = _epoch_seconds(found) if time else None
    if as_json:
        print(json.dumps(_figures(found, advice, seconds), ensure_ascii=False))
        return
    console = Console(highlight=False)
    console.print(_shown(found, seconds), crop=False)
    console.print(Text("\nsuggested", style="dim"))
    console.print(_advised(advice), crop=False)
    given = [] if source is None else [f"data.source={source}"]
    options = [*given, *(set_params or []), *(f"{one.key}={one.value}" for one in advice)]
    command = Text("\ndvc exp run " + " ".join(f"-S {shlex.quote(option)}" for option in options), style="cyan")
    console.print(command, soft_wrap=True)


def _data(source: str | None, options: Sequence[str]) -> DataParams:
    values = dict(read_yaml(PARAMS_FILE).get("data") or {})
    if source is not None:
        values |= {"source": source, "sha256": None}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals or not key.startswith("data."):
            raise UserError(f"-S {option}: allowed are keys of data, as in -S data.encoding=latin-1")
        values[key.removeprefix("data.")] = parse_value(value)
    return parse_group("data", values, DataParams, file="data")


def _epoch_seconds(found: "Survey") -> float:
    """Return how long an epoch takes with the network and training of params.yaml, without evaluations."""
    from pipeline.cli.speed import training_speed  # torch

    groups = read_groups(GROUPS)
    model, train = groups["model"], groups["train"]
    if not isinstance(model, ModelParams) or not isinstance(train, TrainParams):
        raise TypeError("the groups model and train have other types")
    buckets = getattr(groups["split"], "buckets", "auto")
    bucket = STREAM_BUCKET if isinstance(buckets, str) else max(buckets)
    speed = training_speed(model, train, vocab_size=len(found.alphabet) + 1, bucket=bucket)
    return found.characters / speed


def _figures(found: "Survey", advice: Sequence["Advice"], seconds: float | None) -> dict[str, Any]:
    return {
        "documents": found.documents,
        "characters": found.characters,
        "lines": found.lines,
        "alphabet": found.alphabet,
        "rare": found.rare,
        "scripts": dict(found.scripts()),
        "longest_line": found.longest_line,
        "longest_line_in": found.longest_line_in,
        "duplicates": found.duplicates,
        "duplicate_characters": found.duplicate_characters,
        "epoch_seconds": None if seconds is None else round(seconds, 1),
        "advice": [one._asdict() for one in advice],
    }


def _shown(found: "Survey", seconds: float | None) -> Table:
    import numpy as np  # not for --help

    from pipeline.corpus.survey import RARE

    lengths = found.document_lengths
    low, middle, high = (int(value) for value in np.percentile(lengths, [5, 50, 95]))
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", min_width=18)
    table.add_column(overflow="fold")
    table.add_row("documents", f"[bold]{found.documents:,}[/]")
    if found.documents > 1:
        told = f"{lengths.min():,} to {lengths.max():,} characters; 90 % {low:,} to {high:,}, in the middle {middle:,}"
        table.add_row("their lengths", told)
    table.add_row("characters", f"[bold]{found.characters:,}[/]")
    where = f", in {escape(found.longest_line_in)}" if found.documents > 1 else ""
    table.add_row("lines", f"{found.lines:,}, the longest of {found.longest_line:,} characters{where}")
    share = found.duplicate_characters / found.characters
    told = f"{found.duplicates:,} documents stood there before, {share:.1%} of the characters"
    table.add_row("duplicates", told if found.duplicates else "none")
    for name, characters, about in (
        ("alphabet", found.alphabet, ""),
        ("rare", found.rare, f", each under {RARE} times"),
    ):
        shown = Text(f"{len(characters):,} characters{about}  ").append(_printable(characters), style="bold")
        table.add_row(name, shown if characters else "none")
    for number, (script, count) in enumerate(found.scripts()):
        table.add_row("of what kind" if not number else "", f"{count / found.characters:6.2%}  {script}")
    if seconds is not None:
        table.add_row(
            "an epoch takes", f"about [bold]{_duration(seconds)}[/] with the model and train of params.yaml, here"
        )
    return table


def _advised(advice: Sequence["Advice"]) -> Table:
    table = Table.grid(padding=(0, 2))
    for one in advice:
        table.add_row(Text(f"{one.key}={one.value}", style="cyan"), one.why)
    return table


def _printable(characters: str) -> str:
    shown = "".join(char for char in characters if char.isprintable() and not char.isspace())
    return shown[:MOST_SHOWN] + (" …" if len(shown) > MOST_SHOWN else "")


def _duration(seconds: float) -> str:
    if seconds < SECONDS:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < MINUTES else f"{seconds / 3600:.0f} h"

"""`charlm corpus`: shows what a source contains before training, and suggests params for it."""

import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from pipeline.core.errors import UserError
from pipeline.params.groups import GROUPS, Values, override
from pipeline.params.reader import PARAMS_FILE, parse_group, read_groups, read_yaml
from pipeline.params.text import DataParams
from pipeline.params.training import ModelParams, TrainParams

if TYPE_CHECKING:
    from pipeline.survey.suggestion import Suggestion, Trial
    from pipeline.survey.survey import Advice, Survey


MOST_SHOWN = 100
# Durations up to these limits are shown in seconds, and in minutes; all in seconds.
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
    """Return the table of what was found; `seconds` are the shortest and the longest time of an epoch.

    `busy` is the reason why they may be too long. `separators` are the unexpected separators of CSV files, by name.
    """
    from pipeline.survey.survey import RARE  # numba: not for --help

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
    """Return the line with the reason why the command would stop."""
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


def _three_digits(seconds: float) -> float:
    """Round to three significant digits: an epoch of a tiny text takes milliseconds, which is not 0."""
    return float(f"{seconds:.3g}")


def _percent(share: float) -> str:
    return f"{share:.2%}" if share < 0.1 else f"{share:.0%}"


def _range(low: float, high: float) -> str:
    """Return two durations in the unit of the longer one: like "2 to 3 min", or "about 2 min" if both round to 2."""
    unit, name = (1, "s") if high < SECONDS else (60, "min") if high < MINUTES else (3600, "h")
    digits = 0 if high / unit >= 2 else 1
    ends = [f"{value / unit:.{digits}f}" for value in (low, high)]
    return f"about {ends[0]} {name}" if ends[0] == ends[1] else f"{ends[0]} to {ends[1]} {name}"


# Groups that change the result: the text, the split that is tried, and the time of an epoch.
ALLOWED = ("data", "clean", "split", "validate", "model", "train", "evaluate")


def corpus(
    source: Annotated[str | None, typer.Argument(help="As data.source; default: that of params.yaml.")] = None,
    set_params: Annotated[
        list[str] | None,
        typer.Option(
            "-S", "--set-param", help=f"Override a value of params.yaml, in {', '.join(ALLOWED)}: -S key=value."
        ),
    ] = None,
    *,
    time: Annotated[bool, typer.Option(help="Measure how long an epoch will take (about 10 seconds).")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as one JSON object.")] = False,
) -> None:
    """Show what a source contains, suggest params, try the split they give, and estimate the time of an epoch."""
    from pipeline.sources.describe import describe
    from pipeline.sources.reading import open_documents  # numba and pyarrow: not for --help
    from pipeline.survey.suggestion import suggest
    from pipeline.survey.survey import survey
    from pipeline.text.shards import read_batches, shard_writer
    from pipeline.tracking.progress import throughput
    from pipeline.tracking.project import project_root, state_folder

    options = set_params or []
    values = _values(source, options)
    params = parse_group("data", values["data"], DataParams, file="-S")
    root, cache = project_root(), state_folder() / "downloads"
    state_folder().mkdir(exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="corpus-", dir=state_folder()))
    try:
        documents = scratch / "documents"
        documents.mkdir()
        with throughput("corpus", None) as advance:
            described = describe(params, root=root, cache=cache, progress=advance)
            opened = open_documents(params, root=root, cache=cache, expected=described, progress=advance)
            with shard_writer(documents, opened.schema) as writer:
                for batch in opened:
                    writer.write(batch)
            if not writer.characters:
                raise UserError(f"data.source: {params.source}: holds no text; allowed is at least one character")
            found = survey(read_batches(documents), progress=advance)
            given = {option.partition("=")[0] for option in options}
            suggestion = suggest(found, documents, scratch, values, given=given, progress=advance)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    seconds = _epoch_seconds(suggestion.trial, values) if time and suggestion.trial else None
    separators = {one["name"]: one["separator"] for one in described.get("files", []) if "separator" in one}
    if as_json:
        print(json.dumps(_figures(found, suggestion, seconds, separators), ensure_ascii=False))
        return
    console = Console(highlight=False)
    busy = _busy() if seconds else None
    console.print(survey_table(found, suggestion.trial, seconds, separators, busy=busy), crop=False)
    console.print(Text("\nsuggested", style="dim"))
    console.print(advice_table(suggestion.advice), crop=False)
    if suggestion.problem:
        console.print(problem_line(suggestion.problem), soft_wrap=True)
    first = [] if source is None else [f"data.source={source}"]
    all_options = [*first, *options, *(f"{one.key}={one.value}" for one in suggestion.advice)]
    command = " ".join(f"-S {shlex.quote(option)}" for option in all_options)
    console.print(Text(f"\ndvc exp run {command}", style="cyan"), soft_wrap=True)


def _values(source: str | None, options: Sequence[str]) -> Values:
    """Return the groups of params.yaml with `source` and `options`, all of them checked."""
    values: Values = {name: dict(group) for name, group in read_yaml(PARAMS_FILE).items() if isinstance(group, dict)}
    if source is None:
        read_groups(GROUPS)  # report errors in params.yaml as such, not as an option's
    else:
        values["data"] = values.get("data", {}) | {"source": source, "sha256": None}
    values = override(values, options, groups=ALLOWED)
    for name in ALLOWED:
        parse_group(name, values.get(name), GROUPS[name], file="-S" if options else PARAMS_FILE.name)
    return values


def _epoch_seconds(trial: "Trial", values: Values) -> tuple[float, float]:
    """Return the shortest and the longest time, in seconds, of an epoch of the tried split, without evaluations."""
    from pipeline.cli.speed import training_speeds  # torch

    model = parse_group("model", values["model"], ModelParams)
    train = parse_group("train", values["train"], TrainParams)
    slowest, fastest = training_speeds(model, train, vocab_size=trial.dictionary_size, bucket=trial.longest_bucket)
    return trial.chars["train"] / fastest, trial.chars["train"] / slowest


def _busy() -> str | None:
    """Return a warning if other processes slow down the measurement: the load is higher than the number of cores."""
    from pipeline.core.reproducible import available_cores

    load, cores = (os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0), available_cores()
    return f"other processes slow it down: load {load:.1f} on {cores} cores" if load > cores + 1 else None


def _figures(
    found: "Survey", suggestion: "Suggestion", seconds: tuple[float, float] | None, separators: dict[str, str]
) -> dict[str, Any]:
    trial = suggestion.trial
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
        "separators": separators,
        "split_characters": None if trial is None else trial.chars,
        "overlap": None if trial is None else {name: round(share, 6) for name, share in trial.overlap.items()},
        "epoch_seconds": None
        if seconds is None
        else dict(zip(("low", "high"), map(_three_digits, seconds), strict=True)),
        "advice": [one._asdict() for one in suggestion.advice],
        "problem": suggestion.problem,
    }

"""`charlm corpus`: what a source holds, before one trains on it, and which params suit it."""

import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from pipeline.cli.corpus_table import advice_table, problem_line, survey_table
from pipeline.errors import UserError
from pipeline.params.data import DataParams
from pipeline.params.groups import GROUPS
from pipeline.params.model import ModelParams
from pipeline.params.overrides import Values, override
from pipeline.params.reader import PARAMS_FILE, parse_group, read_groups, read_yaml
from pipeline.params.train import TrainParams

if TYPE_CHECKING:
    from pipeline.corpus.survey import Survey
    from pipeline.dataset.suggestion import Suggestion
    from pipeline.dataset.trial import Trial

# Groups that change what is shown: the text, the split that is tried, and how long an epoch takes.
ALLOWED = ("data", "clean", "split", "validate", "model", "train", "evaluate")


def corpus(
    source: Annotated[str | None, typer.Argument(help="As data.source; without it, that of params.yaml.")] = None,
    set_params: Annotated[
        list[str] | None,
        typer.Option(
            "-S", "--set-param", help=f"Another value than that of params.yaml, of {', '.join(ALLOWED)}: -S key=value."
        ),
    ] = None,
    *,
    time: Annotated[bool, typer.Option(help="Measure how long an epoch will take (about 10 seconds).")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="The figures, as one JSON object.")] = False,
) -> None:
    """Show what a source holds, suggest params, try the split they make, and say how long an epoch will take."""
    from pipeline.corpus.reading import open_documents  # numba and pyarrow: not for --help
    from pipeline.corpus.shards import read_batches, shard_writer
    from pipeline.corpus.sources import describe
    from pipeline.corpus.survey import survey
    from pipeline.dataset.suggestion import suggest
    from pipeline.tracking.project import project_root, state_folder
    from pipeline.tracking.throughput import throughput

    options = set_params or []
    values = _values(source, options)
    params = parse_group("data", values["data"], DataParams, file="-S")
    root, cache = project_root(), state_folder() / "downloads"
    state_folder().mkdir(exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="corpus-", dir=state_folder()))
    try:
        documents = scratch / "documents"
        documents.mkdir()
        with throughput("corpus", None) as read:
            described = describe(params, root=root, cache=cache, read=read)
            opened = open_documents(params, root=root, cache=cache, expected=described, read=read)
            with shard_writer(documents, opened.schema) as writer:
                for batch in opened:
                    writer.write(batch)
            if not writer.characters:
                raise UserError(f"data.source: {params.source}: holds no text; allowed is at least one character")
            found = survey(read_batches(documents), read=read)
            given = {option.partition("=")[0] for option in options}
            suggestion = suggest(found, documents, scratch, values, given=given, read=read)
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
        read_groups(GROUPS)  # what is wrong in params.yaml is not an option's fault
    else:
        values["data"] = values.get("data", {}) | {"source": source, "sha256": None}
    values = override(values, options, groups=ALLOWED)
    for name in ALLOWED:
        parse_group(name, values.get(name), GROUPS[name], file="-S" if options else PARAMS_FILE.name)
    return values


def _epoch_seconds(trial: "Trial", values: Values) -> tuple[float, float]:
    """Return how long an epoch of the tried split takes at least and at most, without evaluations."""
    from pipeline.cli.speed import training_speeds  # torch

    model = parse_group("model", values["model"], ModelParams)
    train = parse_group("train", values["train"], TrainParams)
    slowest, fastest = training_speeds(model, train, vocab_size=trial.dictionary_size, bucket=trial.longest_bucket)
    return trial.chars["train"] / fastest, trial.chars["train"] / slowest


def _busy() -> str | None:
    """Return what to say if other processes slow the measurement: there is more to do than cores to do it."""
    from pipeline.threads import available_cores

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
        "epoch_seconds": None if seconds is None else {"low": round(seconds[0], 1), "high": round(seconds[1], 1)},
        "advice": [one._asdict() for one in suggestion.advice],
        "problem": suggestion.problem,
    }

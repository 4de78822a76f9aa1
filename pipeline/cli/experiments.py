"""`charlm preset` and `charlm sweep`: named sets of params, and the search for better ones."""

import json
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.core.errors import UserError
from pipeline.params.groups import write_values
from pipeline.params.reader import flatten, read_yaml

FOLDER = Path(__file__).parents[2] / "presets"


@dataclass(frozen=True)
class Preset:
    """A preset: `title` is its file's first comment line, `params` the nested values it sets."""

    name: str
    title: str
    params: dict[str, Any]

    def options(self) -> Iterator[str]:
        """Yield "-S" and "key=value" in turn."""
        for key, value in flatten(self.params).items():
            yield "-S"
            yield f"{key}={value if isinstance(value, str) else json.dumps(value, separators=(',', ':'))}"


def list_presets() -> list[Preset]:
    """Return all presets, sorted by name."""
    return [read_preset(path.stem) for path in sorted(FOLDER.glob("*.yaml"))]


def read_preset(name: str) -> Preset:
    """Return one preset; UserError if there is none of that name."""
    path = FOLDER / f"{name}.yaml"
    names = [path.stem for path in sorted(FOLDER.glob("*.yaml"))]
    if name not in names:
        raise UserError(f"preset: found {name!r}, allowed are {', '.join(names)}")
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return Preset(name=name, title=first.removeprefix("#").strip(), params=read_yaml(path))


def apply_preset(preset: Preset, path: Path) -> None:
    """Set the preset's values in the params file at `path`; comments and other values are unchanged."""
    write_values(path, flatten(preset.params))


INTERRUPTED = 130


def sweep(
    name: Annotated[str | None, typer.Argument(help="A sweep's name or file; without it, all are listed.")] = None,
    trials: Annotated[int | None, typer.Option(min=1, max=10_000, help="Number of trials, with earlier ones.")] = None,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Trials that run at once; they share the cores.")] = 1,
    label: Annotated[str | None, typer.Option("--name", help="The name of its experiments.")] = None,
    set_param: Annotated[
        list[str] | None, typer.Option("-S", "--set-param", help="key=value for all trials, as for dvc exp run.")
    ] = None,
) -> None:
    """Search for better params: each trial is a DVC experiment, and is stopped early if it falls behind.

    To resume a sweep, run the same command again; with more --trials it continues the search.
    """
    from pipeline.sweeping.definition import find_sweep, list_sweeps, load_sweep  # optuna and mlflow: not for --help

    if name is None:
        for one in list_sweeps():
            print(f"{one.name:12} {one.trials:3} trials  {one.title}")
        return
    path = find_sweep(name)
    definition = load_sweep(path, set_param or [], trials)
    from pipeline.sweeping.process import DvcTrials
    from pipeline.sweeping.runner import run_sweep

    # Shells ignore SIGINT in background jobs, and child processes inherit that.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        run_sweep(definition, DvcTrials(), label=label or definition.name, jobs=jobs)
    except KeyboardInterrupt:
        print("sweep: interrupted; the same command resumes it", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except OSError as error:
        raise UserError(f"sweep: {error.strerror or error}: {error.filename}") from None

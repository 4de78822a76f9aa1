"""`charlm preset`, `sweep`, `report`, `curves` and `sync`: sets of params, and experiments with them."""

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.inputs import need_own_model
from pipeline.core.errors import UserError
from pipeline.core.files import whole_file
from pipeline.params.groups import write_values
from pipeline.params.reader import PARAMS_FILE, flatten, read_yaml, stages_in_step

if TYPE_CHECKING:
    from pipeline.reporting.project import Project


PRESETS = Path(__file__).parents[2] / "presets"


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
    return [read_preset(path.stem) for path in sorted(PRESETS.glob("*.yaml"))]


def read_preset(name: str) -> Preset:
    """Return one preset; UserError if there is none of that name."""
    path = PRESETS / f"{name}.yaml"
    names = [path.stem for path in sorted(PRESETS.glob("*.yaml"))]
    if name not in names:
        raise UserError(f"preset: found {name!r}, allowed are {', '.join(names)}")
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return Preset(name=name, title=first.removeprefix("#").strip(), params=read_yaml(path))


def apply_preset(preset: Preset, path: Path) -> None:
    """Set the preset's values in the params file at `path`; comments and other values are unchanged."""
    write_values(path, flatten(preset.params))


def preset(
    name: Annotated[str | None, typer.Argument(help="The preset's name; without it, all are listed.")] = None,
    *,
    apply: Annotated[bool, typer.Option("--apply", help="Write the preset into params.yaml instead.")] = False,
) -> None:
    """Print a preset as -S options: dvc exp run $(charlm preset tutorial)."""
    if name is None:
        for one in list_presets():
            print(f"{one.name:12} {one.title}")
        return
    found = read_preset(name)
    if apply:
        apply_preset(found, PARAMS_FILE)
    else:
        print(" ".join(found.options()))


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


def sync() -> None:
    """Send MLflow the runs that it lacks: it was unreachable, or DVC restored the experiment from its cache."""
    from pipeline.lineage.sync import sync as send_missing  # loads MLflow and DVC

    read_yaml(PARAMS_FILE)  # an error if this is not a project
    count = 0
    for line in send_missing():
        count += 1
        print(line, flush=True)
    if not count:
        print("nothing is missing: MLflow has a run of each experiment")


WORKSPACE = "workspace"
# The file without which there is nothing to report, and DVC's record of which results belong to which inputs.
FIGURES, LOCK = "metrics/evaluate.json", "dvc.lock"


def report(
    others: Annotated[list[str] | None, typer.Argument(metavar="[EXP]...", help="Experiments to compare with.")] = None,
    compare: Annotated[
        list[str] | None, typer.Option(metavar="EXP", help="An experiment or a commit to compare with; repeatable.")
    ] = None,
    output: Annotated[Path, typer.Option(help="The page's file.")] = Path("reports/report.html"),
) -> None:
    """Write one self-contained HTML page about the model in the workspace, or one that compares it with experiments."""
    from pipeline.reporting.report import build_report  # altair, numba: not for --help

    names = list(dict.fromkeys([*(compare or []), *(others or [])]))
    with ExitStack() as stack:
        html = build_report(_projects(names, stack))
    try:
        with whole_file(output) as part:
            part.write_text(html, encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(f"{output}: {(error.strerror or str(error)).lower()}") from None
    print(f"{output}  {output.stat().st_size / 1e6:.1f} MB")


def _projects(names: list[str], stack: ExitStack) -> "list[Project]":
    """Return the revisions `names`, after the workspace, unless one of them has the same results."""
    from pipeline.reporting.project import Project
    from pipeline.tracking.execution import facts_here, facts_of

    projects = []
    if names:
        from pipeline.tracking.records import snapshot  # loads DVC

        projects = [Project(name, stack.enter_context(snapshot(name)), facts_of(name)) for name in names]
    for project in projects:
        _need_figures(project.folder, f"{project.name}: ")
    if not names:
        need_own_model(Path.cwd())
        _need_figures(Path.cwd(), "")
    here = _read(Path(LOCK))
    if here and _is_stale():
        message = (
            "params.yaml was edited since the last run, so that its figures are another model's; run `dvc repro` first"
        )
        if not names:
            raise UserError(message)
        print(f"left out: the workspace; {message}")
    elif _has_model(Path.cwd()) and not any(here and _read(one.folder / LOCK) == here for one in projects):
        projects.insert(0, Project(WORKSPACE, Path.cwd(), facts_here()))
    return projects


def _is_stale() -> bool:
    """Return whether params.yaml or an input has changed since the figures were made."""
    return "evaluate" in (read_yaml(Path(LOCK)).get("stages") or {}) and "evaluate" not in stages_in_step(Path.cwd())


def _has_model(folder: Path) -> bool:
    """Return whether `folder` has a model with its figures; Git has the figures without the model."""
    try:
        need_own_model(folder)
    except UserError:
        return False
    return (folder / FIGURES).exists()


def _need_figures(folder: Path, name: str) -> None:
    if not (folder / FIGURES).exists():
        raise UserError(f"{name}{Path(FIGURES).name}: not there yet; run `make repro` or `dvc repro` first")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""

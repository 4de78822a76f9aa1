"""`charlm preset`, `sweep`, `report`, `curves` and `sync`: sets of params, and experiments with them."""

import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.models import need_own_model
from pipeline.core.errors import UserError
from pipeline.core.files import whole_file
from pipeline.params.groups import write_values
from pipeline.params.reader import PARAMS_FILE, flatten, read_yaml, stages_in_step
from pipeline.tracking.project import dvc_environment

if TYPE_CHECKING:
    from pipeline.reporting.project import Project
    from pipeline.sweeping.definition import Definition


PRESETS = Path(__file__).parents[2] / "presets"


@dataclass(frozen=True)
class Preset:
    """A preset: `title` is its file's first comment line, `params` the nested values it sets."""

    name: str
    title: str
    params: dict[str, Any]

    def options(self) -> Iterator[str]:
        """Yield "-S" and "key=value" in turn."""
        yield from set_options(flatten(self.params))


def set_options(params: Mapping[str, Any]) -> Iterator[str]:
    """Yield "-S" and "key=value" in turn, for params by dotted key."""
    for key, value in params.items():
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
THREADS = "train.threads"
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,60}")


SWEEPS = PRESETS / "sweeps"


def list_sweeps() -> "list[Definition]":
    """Return the sweeps that come with the project, sorted by name."""
    from pipeline.sweeping.definition import read_sweep  # optuna: not for --help

    return [read_sweep(path, {}) for path in sorted(SWEEPS.glob("*.yaml"))]


def find_sweep(name: str) -> Path:
    """Return the file of a sweep by its name, or by its path; UserError if there is none."""
    if name.endswith((".yaml", ".yml")) or "/" in name:
        return Path(name)
    names = [path.stem for path in sorted(SWEEPS.glob("*.yaml"))]
    if name not in names:
        raise UserError(f"sweep: found {name!r}, allowed are {', '.join(names)}, or the path of a .yaml file")
    return SWEEPS / f"{name}.yaml"


def sweep(
    name: Annotated[str | None, typer.Argument(help="A sweep's name or file; without it, all are listed.")] = None,
    trials: Annotated[int | None, typer.Option(min=1, max=10_000, help="Number of trials, with earlier ones.")] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, max=256, help="Trials at once: 1, or with --ray what the cluster has space for."),
    ] = None,
    label: Annotated[str | None, typer.Option("--name", help="What the sweep is called, by default its file.")] = None,
    set_param: Annotated[
        list[str] | None, typer.Option("-S", "--set-param", help="key=value for all trials, as for dvc exp run.")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(envvar="CHARLM_STORAGE", metavar="URL", help="A database that several machines share."),
    ] = None,
    cpus: Annotated[float | None, typer.Option(min=0.01, help="With --ray: CPUs of a trial, by default 1.")] = None,
    gpus: Annotated[float | None, typer.Option(min=0, help="With --ray: GPUs of a trial, by default 0.")] = None,
    *,
    ray: Annotated[bool, typer.Option("--ray", help="Train on the Ray cluster RAY_ADDRESS, or on one here.")] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Then run the pipeline with the best params.")] = False,
) -> None:
    """Search for better params: each trial is a training, and is stopped early if it falls behind.

    To resume a sweep, run the same command again; with more --trials it continues the search.
    """
    if name is None:
        for one in list_sweeps():
            print(f"{one.name:12} {one.trials:3} trials  {one.title}")
        return
    if not ray and (cpus is not None or gpus is not None):
        raise UserError("--cpus, --gpus: found without --ray, allowed are --jobs here, or these with --ray")
    path = find_sweep(name)
    from pipeline.core.reproducible import available_cores
    from pipeline.core.where import LocalWorker, RayCluster, WorkerPool
    from pipeline.sweeping.definition import load_sweep
    from pipeline.sweeping.sweep import run_sweep  # optuna and mlflow
    from pipeline.sweeping.trial import TrialRunner

    definition = load_sweep(path, set_param or [], trials)
    label = label or definition.name
    if not LABEL.fullmatch(label):
        raise UserError(f"--name: found {label!r}, allowed are up to 61 letters, digits, - and _, no - or _ first")
    # Shells ignore SIGINT in background jobs, and child processes inherit that.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        with ExitStack() as stack:
            if ray:
                cluster = stack.enter_context(closing(RayCluster(cpus=cpus or 1, gpus=gpus or 0)))
                jobs, threads = min(jobs or cluster.slots, cluster.slots), max(1, int(cpus or 1))
                pool = WorkerPool(lambda: cluster.start(TrialRunner))
            else:
                jobs = jobs or 1
                threads = max(1, available_cores() // jobs) if jobs > 1 else 0
                pool = WorkerPool(lambda: LocalWorker(TrialRunner))
            if threads and not definition.params({})[THREADS]:
                definition = replace(definition, fixed=definition.fixed | {THREADS: threads})
            best = run_sweep(definition, stack.enter_context(closing(pool)), label=label, jobs=jobs, url=storage)
    except KeyboardInterrupt:
        print("sweep: interrupted; the same command resumes it", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except OSError as error:
        raise UserError(f"sweep: {error.strerror or error}: {error.filename}") from None
    command = ["dvc", "exp", "run", *set_options(definition.fixed | best)]
    print(f"\n{shlex.join(command)}", flush=True)
    if apply:
        sys.exit(subprocess.run([sys.executable, "-m", *command], env=dvc_environment(), check=False).returncode)


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
    from pipeline.tracking.differences import facts_here, facts_of

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

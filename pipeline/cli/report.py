"""`charlm report`: writes a page about the model, or one that compares several experiments."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.inputs import need_own_model
from pipeline.core.errors import UserError
from pipeline.core.files import whole_file
from pipeline.params.dvc_lock import stages_in_step
from pipeline.params.reader import read_yaml

if TYPE_CHECKING:
    from pipeline.reporting.project import Project

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

"""`charlm clean`, `curves` and `sync`: delete what is no longer needed, print curves, send MLflow what it lacks."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.filesize import decimal

from pipeline.cli.models import ModelName, model_name
from pipeline.core.errors import UserError
from pipeline.params.reader import PARAMS_FILE, read_yaml

SHOWN = 5


def clean(
    days: Annotated[float, typer.Option(min=0, help="Keep runs, versions and checkpoints younger than this.")] = 30,
    model: ModelName = "",
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Delete it permanently.")] = False,
) -> None:
    """Show what takes space and is no longer needed; with --yes, delete it."""
    from pipeline.lineage.disk import find_waste, remove, shared_cache  # loads MLflow

    if folder := shared_cache():
        print(f"DVC's cache {folder} is outside of the project: left alone, since others may need what is in it")
    waste = find_waste(model_name(model), days=days)
    if not waste:
        print(f"nothing to delete: all of it is needed, or younger than {days:g} days")
        return
    console = Console(highlight=False, markup=False, soft_wrap=True)
    for one in waste:
        console.print(f"{len(one.names):5}  {one.kind}  {decimal(one.size)}")
        more = f" and {len(one.names) - SHOWN} more" if len(one.names) > SHOWN else ""
        console.print(f"       {', '.join(one.names[:SHOWN])}{more}", style="dim")
    total = decimal(sum(one.size for one in waste))
    if not yes:
        console.print(f"{total} in all; charlm clean --days {days:g} --yes deletes it for good")
        return
    remove(waste)
    console.print(f"deleted: {total}")


MOST = 4


def curves(
    revisions: Annotated[list[str] | None, typer.Argument(help="Commits, branches or experiments.")] = None,
) -> None:
    """Print the workspace's training curve, and those of other revisions, as a Mermaid chart in Markdown."""
    from pipeline.lineage.curves import mermaid, read_curve
    from pipeline.tracking.records import snapshot  # loads DVC

    names = revisions or []
    if len(names) >= MOST:
        raise UserError(f"curves: found {len(names)} revisions, allowed are at most {MOST - 1}")
    found = []
    for name in names:
        with snapshot(name) as folder:
            found.append((name, read_curve(folder, name)))
    found.append(("this", read_curve(Path(), "the workspace")))
    print(mermaid(found))


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

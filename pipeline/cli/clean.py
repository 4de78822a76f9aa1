"""`charlm clean`: what nothing needs any more, and away with it."""

from typing import Annotated

import typer
from rich.console import Console
from rich.filesize import decimal

from pipeline.cli.registry import ModelName, model_name

SHOWN = 5


def clean(
    days: Annotated[float, typer.Option(min=0, help="Runs, versions and checkpoints younger than this stay.")] = 30,
    model: ModelName = "",
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Delete it, for good.")] = False,
) -> None:
    """Show what takes space and is needed by nothing; with --yes, delete it."""
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

"""`charlm curves`: training curves for a pull request's comment."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import UserError

MOST = 4


def curves(
    revisions: Annotated[list[str] | None, typer.Argument(help="Commits, branches or experiments.")] = None,
) -> None:
    """Print the workspace's training curve, and those of other revisions, as a Mermaid chart in Markdown."""
    from pipeline.lineage.curves import mermaid, read_curve
    from pipeline.tracking.snapshots import snapshot  # loads DVC

    names = revisions or []
    if len(names) >= MOST:
        raise UserError(f"curves: found {len(names)} revisions, allowed are at most {MOST - 1}")
    found = []
    for name in names:
        with snapshot(name) as folder:
            found.append((name, read_curve(folder, name)))
    found.append(("this", read_curve(Path(), "the workspace")))
    print(mermaid(found))

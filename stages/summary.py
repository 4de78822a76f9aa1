"""summary: print the results, how they differ from the commit, and what to do next.

Always runs, so that every `dvc repro` and `dvc exp run` ends with it, also when all results come from DVC's cache.
"""

import sys
from pathlib import Path

import typer
from rich.console import Console

from pipeline.core.errors import UserError, one_line
from pipeline.lineage.summary import summary
from pipeline.tracking.stage import publish_deferred
from pipeline.tracking.view import compare_link


def main() -> None:
    publish_deferred()
    try:
        Console(highlight=False).print(summary(Path.cwd(), runs_page=compare_link()), crop=False)
    except UserError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    typer.run(main)

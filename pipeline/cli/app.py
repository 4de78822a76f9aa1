"""The `charlm` command: what is not a DVC stage."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipeline.cli.chosen import need_own_model
from pipeline.cli.clean import clean
from pipeline.cli.corpus import corpus
from pipeline.cli.curves import curves
from pipeline.cli.generate import generate
from pipeline.cli.presets import apply_preset, list_presets, read_preset
from pipeline.cli.registry import models, promote, rollback
from pipeline.cli.report import report
from pipeline.cli.score import score
from pipeline.cli.serve import serve
from pipeline.cli.summary import summary
from pipeline.cli.sweep import sweep
from pipeline.cli.sync import sync
from pipeline.cli.trace import trace, verify
from pipeline.errors import UserError, one_line
from pipeline.params.reader import PARAMS_FILE
from pipeline.tracking.settings import set_up_mlflow

# Whose errors say that something outside is in trouble: a server, a database, a remote.
STORES = ("mlflow", "sqlalchemy", "alembic", "psycopg", "requests", "dvc", "dvc_data", "dvc_objects", "scmrepo")
MOST_TOLD = 500

app = typer.Typer(
    help="Character-level language models: what goes with `dvc repro` and `mlflow ui`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.command()(corpus)
app.command()(generate)
app.command()(score)
app.command()(report)
app.command()(serve)
app.command()(sync)
app.command()(models)
app.command()(promote)
app.command()(rollback)
app.command()(trace)
app.command()(verify)
app.command()(clean)
app.command()(curves)
app.command()(sweep)


def main() -> None:
    """Run the command; a UserError becomes one line and exit code 2."""
    set_up_mlflow()
    try:
        app()
    except UserError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(error.exit_code)
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in STORES:
            raise
        print(f"error: {one_line(error)[:MOST_TOLD]}", file=sys.stderr)
        sys.exit(UserError.exit_code)


@app.command()
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


@app.command()
def relocate() -> None:
    """After the project's folder was moved: let MLflow's artifact addresses point here."""
    from pipeline.tracking.relocate import relocate as move_addresses  # sqlite: not for --help

    old, changed = move_addresses(Path.cwd())
    print(f"{changed} addresses changed from {old}" if changed else "the addresses are right: nothing to do")


@app.command("summary")
def show_summary() -> None:
    """Show the last run's perplexity, a sample and the commands for what comes next."""
    need_own_model(Path.cwd())
    Console(highlight=False).print(summary(Path.cwd()), crop=False)


if __name__ == "__main__":
    main()

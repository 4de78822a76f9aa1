"""The `charlm` command: everything that is not a DVC stage."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipeline.cli.compare import compare, curves
from pipeline.cli.corpus import corpus
from pipeline.cli.experiments import preset, report, sweep, sync
from pipeline.cli.export import export, import_
from pipeline.cli.generate import generate, score
from pipeline.cli.models import clean, models, need_own_model, promote, rollback, trace, verify
from pipeline.cli.new import new
from pipeline.cli.serve import serve
from pipeline.core.errors import UserError, disk_problem, one_line
from pipeline.tracking.store import set_up_mlflow

# Libraries whose errors mean that a server, a database or a remote has a problem: shown as one line.
DVC = ("dvc", "dvc_data", "dvc_objects", "scmrepo")
STORES = ("mlflow", "sqlite3", "sqlalchemy", "alembic", "psycopg", "requests", *DVC)
MAX_ERROR_CHARS = 500
# Packages that are not installed without an extra.
EXTRAS = {
    **dict.fromkeys(("fastapi", "prometheus_client", "starlette", "swagger_ui_bundle", "uvicorn"), "serve"),
    **dict.fromkeys(("altair", "jinja2", "markupsafe", "vl_convert"), "report"),
    "optuna": "sweep",
    "onnx": "export",
    # Missing only where someone left them out, to serve a model from a folder: examples/deploy/requirements.txt.
    **dict.fromkeys(("dvc", "filelock", "mlflow", "torch"), ""),
}

DATA, EXPERIMENTS, MODELS, SERVING = "Data", "Experiments", "Models", "Writing and serving"

app = typer.Typer(
    help="Train, compare, write with and serve character-level language models. The pipeline itself: `dvc repro`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

# Each command with its panel and its line in `charlm --help`; `charlm COMMAND --help` shows the docstring.
COMMANDS = (
    (new, DATA, "Make a model of your own text, in one command."),
    (corpus, DATA, "Show what a text holds, and suggest params for it."),
    (sweep, EXPERIMENTS, "Search for better params."),
    (compare, EXPERIMENTS, "Compare experiments in one table, the best first."),
    (report, EXPERIMENTS, "Write an HTML page about one model, or several."),
    (curves, EXPERIMENTS, "Print training curves as a chart for Markdown."),
    (sync, EXPERIMENTS, "Send MLflow the runs that it did not receive."),
    (preset, EXPERIMENTS, "Print a named set of params, or apply it."),
    (models, MODELS, "List the registered versions of a model."),
    (promote, MODELS, "Make a version the champion."),
    (rollback, MODELS, "Make the previous champion the champion again."),
    (trace, MODELS, "Show what a version was made from."),
    (verify, MODELS, "Rebuild a version and compare its bytes."),
    (clean, MODELS, "Show which files are no longer needed, and delete them."),
    (generate, SERVING, "Continue a text."),
    (score, SERVING, "Measure how well a model predicts a text."),
    (export, MODELS, "Write a model for others: a page, an ONNX file or a folder."),
    (import_, MODELS, "Register a model that someone else exported."),
    (serve, SERVING, "Serve a model over HTTP, with OpenAI's API."),
)
for command, panel, short_help in COMMANDS:
    app.command(command.__name__.rstrip("_"), rich_help_panel=panel, short_help=short_help)(command)


def show_version(wanted: bool) -> None:
    """Print charlm's version and exit."""
    if wanted:
        from importlib.metadata import version

        print(f"charlm {version('charlm')}")
        raise typer.Exit


@app.callback()
def options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Handle the options that belong to no command."""


def main() -> None:
    """Run the command; a UserError becomes one line and exit code 2."""
    set_up_mlflow()
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # as in `charlm models | head -1`
        _discard_output()
        sys.exit(1)
    except UserError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        what = f"'charlm[{extra}]'" if extra else "charlm"
        print(f"error: {error.name} is not installed; `pip install {what}` installs it", file=sys.stderr)
        sys.exit(UserError.exit_code)
    except Exception as error:
        if problem := disk_problem(error, folder=str(Path.cwd())):
            print(f"error: {problem}", file=sys.stderr)
            _discard_output()
            sys.exit(UserError.exit_code)
        if type(error).__module__.partition(".")[0] not in STORES:
            raise
        print(f"error: {one_line(error)[:MAX_ERROR_CHARS]}", file=sys.stderr)
        sys.exit(UserError.exit_code)


def _discard_output() -> None:
    """Discard output that could not be written: Python would try again at its end, and report that too."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@app.command(rich_help_panel=MODELS, short_help="Correct MLflow's paths after the folder was moved.")
def relocate() -> None:
    """Correct MLflow's artifact addresses after the project's folder was moved."""
    from pipeline.lineage.disk import relocate as move_addresses  # loads MLflow

    old, changed = move_addresses(Path.cwd())
    print(f"{changed} addresses changed from {old}" if changed else "the addresses are right: nothing to do")


@app.command("summary", rich_help_panel=EXPERIMENTS, short_help="Show the last result and what to do next.")
def show_summary() -> None:
    """Show the last run's perplexity, a sample and the commands for what comes next."""
    from pipeline.lineage.summary import summary  # YAML: not for --help
    from pipeline.tracking.view import compare_link

    need_own_model(Path.cwd())
    Console(highlight=False).print(summary(Path.cwd(), runs_page=compare_link()), crop=False)


if __name__ == "__main__":
    main()

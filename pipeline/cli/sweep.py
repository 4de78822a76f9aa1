"""`charlm sweep`: search for better params, each trial a DVC experiment."""

import signal
import sys
from typing import Annotated

import typer

from pipeline.errors import UserError

INTERRUPTED = 130


def sweep(
    name: Annotated[str | None, typer.Argument(help="A sweep's name or file; without it, all are listed.")] = None,
    trials: Annotated[int | None, typer.Option(min=1, max=10_000, help="How many, those of before included.")] = None,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Trials side by side; they share the cores.")] = 1,
    label: Annotated[str | None, typer.Option("--name", help="What its experiments are called.")] = None,
    set_param: Annotated[
        list[str] | None, typer.Option("-S", "--set-param", help="key=value for all trials, as for dvc exp run.")
    ] = None,
) -> None:
    """Search for better params: each trial is a DVC experiment, watched, and stopped early if it is hopeless.

    The same command again goes on where it ended, however it ended; with more --trials it goes on searching.
    """
    from pipeline.sweeping.definition import find_sweep, list_sweeps, load_sweep  # optuna and mlflow: not for --help

    if name is None:
        for one in list_sweeps():
            print(f"{one.name:12} {one.trials:3} trials  {one.title}")
        return
    path = find_sweep(name)
    definition = load_sweep(path, set_param or [], trials)
    from pipeline.sweeping.command import run_sweep
    from pipeline.sweeping.dvc import DvcTrials

    # Of a shell's background jobs SIGINT is ignored, and so it would be in the trials.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        run_sweep(definition, DvcTrials(), label=label or definition.name, jobs=jobs)
    except KeyboardInterrupt:
        print("sweep: interrupted; the same command goes on with it", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except OSError as error:
        raise UserError(f"sweep: {error.strerror or error}: {error.filename}") from None

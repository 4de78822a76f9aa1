"""Finds the project's folders, and the DVC command that runs this stage."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import psutil

from pipeline.tracking.git import git_state


def project_root() -> Path:
    """Return the project's folder, which relative paths in params refer to, with mlflow.db and mlruns/.

    DVC sets DVC_ROOT to it, also when a stage runs in a temporary copy; without DVC it is the current folder.
    """
    return Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()


def state_folder() -> Path:
    """Return the folder for files that are neither inputs nor outputs: sessions, downloads, locks."""
    return project_root() / ".charlm"


def experiment_name() -> str | None:
    """Return the name of the DVC experiment that this stage runs in, None in a plain repro."""
    return os.environ.get("DVC_EXP_NAME") or None


def baseline() -> str:
    """Return the commit that this execution builds on: the experiment's baseline, or HEAD outside of an experiment."""
    return os.environ.get("DVC_EXP_BASELINE_REV") or git_state().commit


def session_name() -> str:
    """Return a text that is the same for all stages of one execution of the pipeline, and differs between executions.

    It consists of the experiment's name and baseline, and the process id and start time of `dvc_ancestor`.
    """
    ancestor = dvc_ancestor()
    parts = (
        os.environ.get("DVC_EXP_NAME", ""),
        os.environ.get("DVC_EXP_BASELINE_REV", ""),
        str(ancestor.pid),
        f"{ancestor.create_time():.2f}",
    )
    return "|".join(parts)


def dvc_ancestor() -> psutil.Process:
    """Return the nearest ancestor process that is dvc; without one the parent, a shell in which stages run by hand."""
    ancestors = psutil.Process().parents()
    for process in ancestors:
        try:
            words = [Path(word).name for word in process.cmdline()[:3]]
        except psutil.Error:
            continue
        if "dvc" in words:
            return process
    return ancestors[0] if ancestors else psutil.Process()


# Options of `dvc repro` and `dvc exp run`, without and with a value, that leave all stages to run in this folder.
FLAGS = (
    "-f",
    "--force",
    "-q",
    "--quiet",
    "-v",
    "--verbose",
    "--pull",
    "--no-run-cache",
    "--no-commit",
    "--wait-for-lock",
)
VALUES = ("-S", "--set-param", "-n", "--name", "-m", "--message")


def will_register() -> bool:
    """Return whether the dvc command that runs this stage will also run `register` and `summary`; False if unsure."""
    try:
        return runs_all_stages(dvc_ancestor().cmdline())
    except psutil.Error:
        return False


def runs_all_stages(command: Sequence[str]) -> bool:
    """Return whether `command` is `dvc repro` or `dvc exp run` without targets, and not with --queue or --temp."""
    names = [Path(word).name for word in command[:3]]
    if "dvc" not in names:
        return False
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument(*FLAGS, dest="flags", action="store_true")
    parser.add_argument(*VALUES, dest="values", action="append")
    parser.add_argument("words", nargs="*")
    try:
        found, unknown = parser.parse_known_intermixed_args(list(command[names.index("dvc") + 1 :]))
    except argparse.ArgumentError:
        return False
    return not unknown and found.words in (["repro"], ["exp", "run"], ["experiments", "run"])

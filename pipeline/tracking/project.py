"""Where the project is, and what git and DVC say of this execution."""

import os
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

# What a run of the pipeline itself rewrites: it does not make the tree unclean.
WRITTEN_BY_STAGES = ("dvc.lock", "metrics", "plots")


def project_root() -> Path:
    """Return the folder that params' relative paths, mlflow.db and mlruns/ belong to.

    DVC names it, also while a stage runs in a temporary copy; by hand it is the current folder.
    """
    return Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()


def state_folder() -> Path:
    """Return the folder for what is neither source nor output: sessions, downloads, locks."""
    return project_root() / ".charlm"


@dataclass(frozen=True)
class Git:
    """The checked-out commit ("" outside of a repository) and whether tracked files were as in it."""

    commit: str
    clean: bool


@cache
def git_state() -> Git:
    """Return the state of the working tree that this process runs in."""
    commit = _git("rev-parse", "HEAD")
    exclude = [f":(exclude){path}" for path in WRITTEN_BY_STAGES]
    return Git(commit=commit, clean=bool(commit) and not _git("status", "--porcelain", "-uno", "--", ".", *exclude))


def experiment_name() -> str | None:
    """Return the name of the DVC experiment that this stage runs in, None in a plain repro."""
    return os.environ.get("DVC_EXP_NAME") or None


def session_name() -> str:
    """Return what all stages of one execution of the pipeline share, and no other execution does.

    The experiment's name and baseline, and the nearest ancestor process that is dvc (else the parent: a shell in which
    stages are run by hand), by its pid and start time.
    """
    ancestor = _dvc_ancestor()
    parts = (
        os.environ.get("DVC_EXP_NAME", ""),
        os.environ.get("DVC_EXP_BASELINE_REV", ""),
        str(ancestor.pid),
        f"{ancestor.create_time():.2f}",
    )
    return "|".join(parts)


def _dvc_ancestor() -> psutil.Process:
    ancestors = psutil.Process().parents()
    for process in ancestors:
        try:
            words = [Path(word).name for word in process.cmdline()[:3]]
        except psutil.Error:
            continue
        if "dvc" in words:
            return process
    return ancestors[0] if ancestors else psutil.Process()


def _git(*arguments: str) -> str:
    answer = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)  # noqa: S603, S607
    return answer.stdout.strip()

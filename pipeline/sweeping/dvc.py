"""How a trial runs: a DVC experiment in a temporary copy, up to evaluate, so that nothing is registered.

DVC 3.67 puts an experiment that is to run on one stack for the whole project, changing the workspace for half a
second, and takes "the first" from there; when it has ended one it looks for another. And two experiments that run the
same stage with the same inputs at once may lose a file of its run cache. So a trial starts only when all others are
training: then only trainings run beside each other, no two of which are the same.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from pipeline.files import read_json
from pipeline.tracking.project import project_root

TARGET = "evaluate"
METRICS, METRIC = "metrics/summary.json", "perplexity"
TEMPORARY = Path(".dvc/tmp/exps")


class DvcTrials:
    """Trials as DVC experiments of the project in the current folder."""

    def command(self, name: str, options: list[str]) -> list[str]:
        """Return the command that runs experiment `name` with "key=value" options."""
        set_params = [word for option in options for word in ("-S", option)]
        # A dvc command of the person's own only delays a trial.
        return [sys.executable, "-m", "dvc", "--wait-for-lock", "exp", "run", "--temp", "-n", name, *set_params, TARGET]

    def environment(self) -> dict[str, str]:
        """Return what the command's environment must have: this Python first, for the stages too."""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        return {"PATH": path, "DVC_NO_ANALYTICS": "true", "PYTHONUNBUFFERED": "1"}

    def is_apart(self, log: str) -> bool:
        """Return whether the experiment is off the stack and in its own copy, from what the command has said."""
        return "Reproducing experiment '" in log

    def is_set_up(self, log: str) -> bool:
        """Return whether the training has begun."""
        return bool(re.search(r"[Ss]tage 'train'", log))

    def is_ending(self, log: str) -> bool:
        """Return whether the command may soon look for another experiment."""
        return bool(re.search(rf"[Ss]tage '{TARGET}'", log))

    def result(self, name: str) -> float | None:
        """Return the experiment's perplexity, None if there is no such experiment."""
        refs = _git("for-each-ref", "--format=%(refname)", f"refs/exps/*/*/{name}").split()
        for ref in refs:
            try:
                return float(json.loads(_git("show", f"{ref}:./{METRICS}"))[METRIC])
            except (ValueError, KeyError, TypeError):
                continue
        return None

    def names(self, label: str) -> list[str]:
        """Return the experiments that have the names of the trials of `label`."""
        refs = _git("for-each-ref", "--format=%(refname)", f"refs/exps/*/*/{label}-*").split()
        return sorted(name for ref in refs if re.fullmatch(rf"{label}-\d{{4,}}", name := ref.rpartition("/")[2]))

    def clean(self, name: str) -> None:
        """Remove the copy that a killed experiment leaves: `dvc exp show` would show it as running."""
        for note in TEMPORARY.glob("standalone/run/*/*.run"):
            try:
                said = read_json(note)
                if said["name"] == name and not said["result_hash"]:
                    copy = Path(said["root_dir"])
                    if copy.resolve().is_relative_to((project_root() / TEMPORARY).resolve()):
                        shutil.rmtree(copy, ignore_errors=True)
            except (OSError, ValueError, KeyError, TypeError):
                continue


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout  # noqa: S603, S607

"""One trial's processes: started in a group of their own, found again by whoever goes on, ended as a group.

They outlive whoever started them. What marks them is CHARLM_CURVE in their environment, the file that the training
writes its curve to.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil

from pipeline.core.files import read_json
from pipeline.tracking.project import project_root, state_folder
from pipeline.tracking.stage import VARIABLE

TARGET = "evaluate"
METRICS, METRIC = "metrics/summary.json", "perplexity"
TEMPORARY = Path(".dvc/tmp/exps")


class Trials(Protocol):
    """How trials run."""

    def command(self, name: str, options: list[str]) -> list[str]:
        """Return the command that runs trial `name` with "key=value" options."""
        ...

    def environment(self) -> dict[str, str]:
        """Return what the command's environment must have."""
        ...

    def is_apart(self, log: str) -> bool:
        """Return whether the one whose command has said `log` may be interrupted."""
        ...

    def is_set_up(self, log: str) -> bool:
        """Return whether another trial may start beside the one whose command has said `log`."""
        ...

    def is_ending(self, log: str) -> bool:
        """Return whether no other trial may start any more until the one that has said `log` has ended."""
        ...

    def result(self, name: str) -> float | None:
        """Return the perplexity of trial `name`, None if it has not ended well."""
        ...

    def names(self, label: str) -> list[str]:
        """Return the names of the trials of `label` that have a result."""
        ...

    def clean(self, name: str) -> None:
        """Remove what trial `name`, whose processes were killed, has left."""
        ...


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


@dataclass(frozen=True)
class Point:
    """A point of a training's curve."""

    epoch: float
    perplexity: float


class TrialProcess:
    """The processes of trial `name`, whose files are FOLDER/NUMBER.log and .jsonl."""

    def __init__(self, name: str, number: int, folder: Path, trials: Trials) -> None:
        self.name = name
        self.number = number
        self.log = folder / f"{number:04}.log"
        self.curve = folder / f"{number:04}.jsonl"
        self._trials = trials
        self._leader: subprocess.Popen[bytes] | psutil.Process | None = None
        self._read = 0

    def start(self, options: list[str], environment: Mapping[str, str]) -> None:
        """Start the trial in an environment; OSError if that cannot be done."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.curve.unlink(missing_ok=True)
        own = {**environment, **self._trials.environment(), VARIABLE: str(self.curve.resolve())}
        with self.log.open("wb") as log:
            self._leader = subprocess.Popen(  # noqa: S603
                self._trials.command(self.name, options),
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=own, start_new_session=True,
            )  # fmt: skip

    def adopt(self) -> bool:
        """Take over the processes that an earlier runner started; returns whether their leader still runs."""
        members = self._members()
        self._leader = next((process for process in members if _leads(process)), None)
        if self._leader is None:  # what is left of it does no good
            _kill(members)
        return self._leader is not None

    def ended(self) -> float:
        """Return when the trial last said something, in seconds since 1970."""
        try:
            return self.log.stat().st_mtime
        except OSError:
            return time.time()

    def is_alive(self) -> bool:
        """Return whether the trial's first process runs."""
        if isinstance(self._leader, subprocess.Popen):
            return self._leader.poll() is None
        try:
            return (
                self._leader is not None and self._leader.is_running() and self._leader.status() != psutil.STATUS_ZOMBIE
            )
        except psutil.Error:
            return False

    def is_apart(self) -> bool:
        """Return whether the trial may be interrupted."""
        return self._trials.is_apart(self.said())

    def is_set_up(self) -> bool:
        """Return whether another trial may start beside this one."""
        return self._trials.is_set_up(self.said())

    def is_ending(self) -> bool:
        """Return whether no other trial may start until this one has ended."""
        return self._trials.is_ending(self.said())

    def said(self) -> str:
        """Return the log."""
        try:
            return self.log.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def new_points(self) -> list[Point]:
        """Return the evaluations in the curve that have come since the last call."""
        try:
            with self.curve.open("rb") as file:
                file.seek(self._read)
                content = file.read()
        except OSError:
            return []
        whole = content[: content.rfind(b"\n") + 1]
        self._read += len(whole)
        rows: list[dict[str, Any]] = [json.loads(line) for line in whole.splitlines()]
        return [Point(row["epoch"], row["eval_perplexity"]) for row in rows if "eval_perplexity" in row]

    def reason(self) -> str:
        """Return why the trial ended without a result, in one line: the last error that its log holds."""
        lines = [line.strip() for line in self.said().splitlines()]
        for start in ("error: ", "ERROR: "):
            if found := [line for line in lines if line.startswith(start)]:
                return found[-1].removeprefix(start)
        crash = [line for line in lines if re.match(r"\w+(Error|Exception)\b", line)]
        return crash[-1] if crash else "ended without a result"

    def interrupt(self) -> None:
        """Ask the whole group to end."""
        self._signal(signal.SIGINT)

    def kill(self) -> None:
        """End the whole group at once, and remove what it leaves."""
        self._signal(signal.SIGKILL)
        if isinstance(self._leader, subprocess.Popen):
            self._leader.wait()
        self.clean()

    def clean(self) -> None:
        """End what is left of the group after its first process, and remove its temporary files."""
        _kill(self._members())
        self._trials.clean(self.name)

    def checkpoints(self) -> list[Path]:
        """Return the folders of checkpoints that the trial's training holds a lock in."""
        parent = (state_folder() / "checkpoints").resolve()
        folders = set()
        for process in self._members():
            with suppress(psutil.Error):
                folders |= {Path(file.path).parent for file in process.open_files()}
        return [folder for folder in folders if folder.parent == parent]

    def _signal(self, number: signal.Signals) -> None:
        if self._leader is not None and self.is_alive():
            with suppress(ProcessLookupError):
                os.killpg(self._leader.pid, number)

    def _members(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if process.environ().get(VARIABLE) == str(self.curve.resolve()):
                    found.append(process)
        return found


def remove_checkpoints(folders: list[Path]) -> None:
    """Remove the checkpoints of trainings that nobody will go on with."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _leads(process: psutil.Process) -> bool:
    try:
        return os.getpgid(process.pid) == process.pid
    except ProcessLookupError:
        return False


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.kill()

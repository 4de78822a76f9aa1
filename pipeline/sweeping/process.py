"""Starts and controls the processes of one trial, a DVC experiment.

They run in their own process group and outlive the sweep's process if it is killed. A resumed sweep finds them by
CHARLM_CURVE in their environment: the file to which the training writes its curve.
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
from pipeline.evaluation.measurement import Record, record_in
from pipeline.tracking.project import project_root, read_files, state_folder
from pipeline.tracking.stage import CURVE_VARIABLE

TARGET = "evaluate"
METRICS, METRIC = "metrics/summary.json", "perplexity"
FIGURES = "metrics/evaluate.json"
TEMPORARY = Path(".dvc/tmp/exps")


class Trials(Protocol):
    """How trials are run; tests replace DvcTrials by trials of a second."""

    def command(self, name: str, options: list[str]) -> list[str]:
        """Return the command that runs trial `name` with "key=value" options."""
        ...

    def environment(self) -> dict[str, str]:
        """Return the environment variables that the command needs."""
        ...

    def is_apart(self, log: str) -> bool:
        """Return whether the trial with output `log` may be interrupted."""
        ...

    def is_set_up(self, log: str) -> bool:
        """Return whether another trial may start while the trial with output `log` is running."""
        ...

    def is_ending(self, log: str) -> bool:
        """Return whether no other trial may start until the trial with output `log` has ended."""
        ...

    def result(self, name: str) -> float | None:
        """Return the perplexity of trial `name`, None if it has not succeeded."""
        ...

    def measurement(self, name: str) -> Record | None:
        """Return the record of how the perplexity of trial `name` was measured, None if there is none."""
        ...

    def names(self, label: str) -> list[str]:
        """Return the names of the trials of `label` that have a result."""
        ...

    def clean(self, name: str) -> None:
        """Remove the temporary files of trial `name` after its processes were killed."""
        ...


class DvcTrials:
    """Trials as DVC experiments of the project in the current folder."""

    def command(self, name: str, options: list[str]) -> list[str]:
        """Return the command that runs experiment `name` with "key=value" options."""
        set_params = [word for option in options for word in ("-S", option)]
        # With --wait-for-lock, another dvc command in the project delays a trial instead of failing it.
        return [sys.executable, "-m", "dvc", "--wait-for-lock", "exp", "run", "--temp", "-n", name, *set_params, TARGET]

    def environment(self) -> dict[str, str]:
        """Return the environment variables that the command needs; this Python is first in PATH, for the stages."""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        return {"PATH": path, "DVC_NO_ANALYTICS": "true", "PYTHONUNBUFFERED": "1"}

    def is_apart(self, log: str) -> bool:
        """Return whether the experiment has left the workspace and runs in its own copy."""
        return "Reproducing experiment '" in log

    def is_set_up(self, log: str) -> bool:
        """Return whether the training has started."""
        return bool(re.search(r"[Ss]tage 'train'", log))

    def is_ending(self, log: str) -> bool:
        """Return whether the command may soon read the list of experiments, which another start would change."""
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

    def measurement(self, name: str) -> Record | None:
        """Return the record in the experiment's figures, which are in DVC's cache."""
        for ref in _git("for-each-ref", "--format=%(refname)", f"refs/exps/*/*/{name}").split():
            try:
                return record_in(json.loads(read_files([ref], [FIGURES])[0][FIGURES] or "{}"))
            except (ValueError, AttributeError):
                continue
        return None

    def names(self, label: str) -> list[str]:
        """Return the experiments whose names are those of trials of sweep `label`."""
        refs = _git("for-each-ref", "--format=%(refname)", f"refs/exps/*/*/{label}-*").split()
        return sorted(name for ref in refs if re.fullmatch(rf"{label}-\d{{4,}}", name := ref.rpartition("/")[2]))

    def clean(self, name: str) -> None:
        """Remove the copy that a killed experiment leaves; otherwise `dvc exp show` would show it as running."""
        for path in TEMPORARY.glob("standalone/run/*/*.run"):
            try:
                info = read_json(path)
                if info["name"] == name and not info["result_hash"]:
                    copy = Path(info["root_dir"])
                    if copy.resolve().is_relative_to((project_root() / TEMPORARY).resolve()):
                        shutil.rmtree(copy, ignore_errors=True)
            except (OSError, ValueError, KeyError, TypeError):
                continue


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout


@dataclass(frozen=True)
class Point:
    """A point of a training's curve."""

    epoch: float
    perplexity: float


class TrialProcess:
    """The processes of trial `name`; their output is FOLDER/NUMBER.log, the training's curve FOLDER/NUMBER.jsonl."""

    def __init__(self, name: str, number: int, folder: Path, trials: Trials) -> None:
        self.name = name
        self.number = number
        self.log = folder / f"{number:04}.log"
        self.curve = folder / f"{number:04}.jsonl"
        self._trials = trials
        self._leader: subprocess.Popen[bytes] | psutil.Process | None = None
        self._read = 0

    def start(self, options: list[str], environment: Mapping[str, str]) -> None:
        """Start the trial in an environment; OSError if that fails."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.curve.unlink(missing_ok=True)
        own = {**environment, **self._trials.environment(), CURVE_VARIABLE: str(self.curve.resolve())}
        with self.log.open("wb") as log:
            self._leader = subprocess.Popen(
                self._trials.command(self.name, options),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=own,
                start_new_session=True,
            )

    def adopt(self) -> bool:
        """Take over the processes that an earlier runner started; returns whether the first one is still running."""
        members = self._members()
        self._leader = next((process for process in members if _leads(process)), None)
        if self._leader is None:  # the trial cannot succeed without it
            _kill(members)
        return self._leader is not None

    def ended(self) -> float:
        """Return the time of the trial's last output, in seconds since 1970."""
        try:
            return self.log.stat().st_mtime
        except OSError:
            return time.time()

    def is_alive(self) -> bool:
        """Return whether the trial's first process is running."""
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
        return self._trials.is_apart(self.output())

    def is_set_up(self) -> bool:
        """Return whether another trial may start while this one is running."""
        return self._trials.is_set_up(self.output())

    def is_ending(self) -> bool:
        """Return whether no other trial may start until this one has ended."""
        return self._trials.is_ending(self.output())

    def output(self) -> str:
        """Return the log's text."""
        try:
            return self.log.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def new_points(self) -> list[Point]:
        """Return the points of the curve that were written since the last call."""
        try:
            with self.curve.open("rb") as file:
                file.seek(self._read)
                content = file.read()
        except OSError:
            return []
        whole = content[: content.rfind(b"\n") + 1]  # the last line may be incomplete
        self._read += len(whole)
        rows: list[dict[str, Any]] = [json.loads(line) for line in whole.splitlines()]
        return [Point(row["epoch"], row["eval_perplexity"]) for row in rows if "eval_perplexity" in row]

    def reason(self) -> str:
        """Return why the trial ended without a result, in one line: the last error in its log."""
        lines = [line.strip() for line in self.output().splitlines()]
        for start in ("error: ", "ERROR: "):
            if found := [line for line in lines if line.startswith(start)]:
                return found[-1].removeprefix(start)
        crash = [line for line in lines if re.match(r"\w+(Error|Exception)\b", line)]
        return crash[-1] if crash else "ended without a result"

    def interrupt(self) -> None:
        """Send SIGINT to the whole process group."""
        self._signal(signal.SIGINT)

    def kill(self) -> None:
        """Kill the whole process group, and remove its temporary files."""
        self._signal(signal.SIGKILL)
        if isinstance(self._leader, subprocess.Popen):
            self._leader.wait()
        self.clean()

    def clean(self) -> None:
        """Kill the remaining processes after the first one has ended, and remove the temporary files."""
        _kill(self._members())
        self._trials.clean(self.name)

    def checkpoints(self) -> list[Path]:
        """Return the folders of checkpoints that the trial's training has locked."""
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
                if process.environ().get(CURVE_VARIABLE) == str(self.curve.resolve()):
                    found.append(process)
        return found


def remove_checkpoints(folders: list[Path]) -> None:
    """Remove the checkpoints of trainings that will not be resumed."""
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

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
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from pipeline.sweeping.trials import Trials
from pipeline.tracking.curve_file import VARIABLE
from pipeline.tracking.project import state_folder


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

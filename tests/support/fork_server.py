"""Runs stages and commands in forks of one process: python fork_server.py MODULE…, started by `ForkServer`.

The modules are imported once, each request runs in a fork: it takes tenths of a second, a crash or a hang of compiled
code ends only the fork, and no state is left behind. A request is a line of JSON on standard input (`folder`, `call`:
"module:function", `argv`, `timeout` in seconds, `environment`), the answer a line of JSON on standard output.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
TIMED_OUT = "timed out"


@dataclass(frozen=True)
class Done:
    """How a request ended: its exit code (negative: a signal, None: it timed out) and what it wrote."""

    code: int | None
    out: str
    error: str
    seconds: float


class ForkServer:
    """The process that runs requests; a context manager. It has one thread, as forks share the cores."""

    def __init__(self, *modules, **environment):
        self._process = subprocess.Popen(
            [sys.executable, __file__, *modules],
            cwd=ROOT,
            env=os.environ
            | {"PYTHONPATH": f"{ROOT}:{ROOT}/tests", "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
            | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def run(self, folder, call, *argv, timeout=120, **environment):
        """Run a function in `folder`: "stages.train:main", or a command with its arguments."""
        request = {"folder": str(folder), "call": call, "argv": argv, "timeout": timeout, "environment": environment}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return Done(**json.loads(self._process.stdout.readline()))

    def stage(self, folder, name, **options):
        """Run a stage."""
        return self.run(folder, f"stages.{name}:main", **options)


def serve(modules):
    """Answer requests until standard input ends."""
    for module in modules:
        importlib.import_module(module)
    for line in sys.stdin:
        request = json.loads(line)
        started = time.monotonic()
        files = [Path(request["folder"]) / f".{name}" for name in ("stdout", "stderr")]
        pid = os.fork()
        if pid == 0:
            _run(request, files)
        code = _wait(pid, started + request["timeout"])
        texts = [file.read_text(errors="replace") for file in files]
        for file in files:
            file.unlink()
        seconds = time.monotonic() - started
        print(json.dumps({"code": code, "out": texts[0], "error": texts[1], "seconds": seconds}), flush=True)


def _wait(pid, until):
    while time.monotonic() < until:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def _run(request, files):
    """Run the request in this process, and end it."""
    code = 1
    try:
        for file, number in zip(files, (1, 2), strict=True):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        os.close(0)
        os.chdir(request["folder"])
        os.environ.update(request["environment"])
        module, _, function = request["call"].partition(":")
        sys.argv = [module, *request["argv"]]
        getattr(importlib.import_module(module), function)()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001  as Python does when it ends
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1:])

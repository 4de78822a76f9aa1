"""Runs Python commands in forks of one process that has already imported the large libraries.

Importing torch, MLflow, DVC and Great Expectations takes seconds, a fork takes hundredths. Each request runs in a fork
of its own: a crash or a hang of compiled code ends only the fork, and no state is left behind. There are two ways in:

- `ForkServer.run` calls a function;
- the commands `python` and `charlm` in the folder `ForkServer.commands` can be run in place of the real ones: there,
  `dvc repro` finds `python` for each stage.

A request is a line of JSON on a Unix socket, with the descriptors of standard input, output and error. The answers are
two lines of JSON: the fork's process id, and the code with which it ended.
"""

import atexit
import contextlib
import gc
import importlib
import importlib.util
import json
import multiprocessing.process
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import types
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
# What the stages and commands import, apart from the project's own modules: those are a copy's, in some tests.
LIBRARIES = (
    "torch._dynamo",
    "mlflow.pyfunc",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
    "alembic.command",
    "great_expectations",
    "dvc.api",
    "dvc.repo",
    "IPython",
    "numba.core.caching",
    "typer",
    "rich.table",
    "rich.markdown",
    "altair",
    "safetensors.numpy",
    "fastapi",
    "uvicorn",
)
ENVIRONMENT = {"PYTHONPATH": "", "OMP_NUM_THREADS": "1", "GX_ANALYTICS_ENABLED": "false"}
# Where the interpreter itself looks: not in the folder of this file.
PLACES = sys.path[1:]
COMMANDS = {"charlm": "pipeline.cli.app:main"}

# What a command in the folder does. It sends its signals on, and ends as the fork does. Python with anything but a
# module is a process of its own.
COMMAND = """#!{python} -IS
import json, os, signal, socket, sys
name = os.path.basename(sys.argv[0])
if name == "python" and sys.argv[1:2] != ["-m"]:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
connection = socket.socket(socket.AF_UNIX)
connection.connect({address!r})
request = {{"folder": os.getcwd(), "name": name, "argv": sys.argv[1:], "pid": os.getpid()}}
content = json.dumps(request | {{"environment": dict(os.environ)}}).encode() + b"\\n"
sent = socket.send_fds(connection, [content], [0, 1, 2])
connection.sendall(content[sent:])
answers = connection.makefile()
child = json.loads(answers.readline())
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, _: os.killpg(child, number))
code = json.loads(answers.readline())
if code < 0:
    signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
    os.kill(os.getpid(), -code)
os._exit(code)
"""


@dataclass(frozen=True)
class Done:
    """How a call ended: its exit code (negative: a signal, None: it timed out) and what it wrote."""

    code: int | None
    out: str
    error: str


class ForkServer:
    """The process whose forks run requests. It has one thread, as forks share the cores."""

    def __init__(self, *modules):
        """Start to import `modules`; requests wait until they are there."""
        self.folder = Path(tempfile.mkdtemp(prefix="forks-"))
        self.address = str(self.folder / "socket")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.address)
        listener.listen(64)
        self.commands = self.folder / "bin"
        self.commands.mkdir()
        for name in ("python", *COMMANDS):
            command = self.commands / name
            command.write_text(COMMAND.format(python=sys.executable, address=self.address))
            command.chmod(0o755)
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(listener.fileno()), *modules],
            cwd=ROOT,
            env=os.environ | ENVIRONMENT,
            stdin=subprocess.PIPE,
            pass_fds=[listener.fileno()],
            start_new_session=True,
        )
        listener.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """End the process and its forks."""
        self._process.stdin.close()
        self._process.wait(30)
        shutil.rmtree(self.folder)

    def run(self, folder, call, *argv, timeout=120):
        """Call a function in `folder`, "stages.train:main", as a command with these arguments."""
        request = {
            "folder": str(folder),
            "name": call,
            "argv": argv,
            "environment": dict(os.environ) | {"COLUMNS": "200"},
            "pid": os.getpid(),
        }
        with (
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as error,
            Path(os.devnull).open("rb") as nothing,
            socket.socket(socket.AF_UNIX) as connection,
        ):
            connection.connect(self.address)
            content = json.dumps(request).encode() + b"\n"
            files = [nothing.fileno(), out.fileno(), error.fileno()]
            connection.sendall(content[socket.send_fds(connection, [content], files) :])
            connection.settimeout(timeout)
            answers = connection.makefile()
            try:
                answers.readline()
                code = json.loads(answers.readline())
            except TimeoutError:
                code = None
            texts = []
            for file in (out, error):
                file.seek(0)
                texts.append(file.read().decode(errors="replace"))
        return Done(code, *texts)

    def stage(self, folder, name, **options):
        """Run a stage."""
        return self.run(folder, f"stages.{name}:main", **options)


@cache
def commands():
    """Return the folder with the commands of a server that this process starts now; it ends with this process."""
    server = ForkServer(*LIBRARIES)
    atexit.register(server.close)
    return server.commands


def serve(listener, modules):
    """Run requests until standard input ends."""
    sys.path[:] = [str(ROOT / "tests"), *PLACES]
    for module in modules:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ, _accept)
        selector.register(sys.stdin, selectors.EVENT_READ, _end)
        while True:
            for key, _ in selector.select():
                if key.fileobj in selector.get_map():  # the event before may have ended it
                    key.data(selector, key.fileobj)


def _end(selector, _):
    for key in selector.get_map().values():
        if isinstance(key.data, _Fork):
            key.data.kill()
    os._exit(0)


def _accept(selector, listener):
    connection, _ = listener.accept()
    content, files, *_ = socket.recv_fds(connection, 1 << 20, 3)
    while not content.endswith(b"\n"):
        more = connection.recv(1 << 20)
        if not more:  # the client was killed
            connection.close()
            return
        content += more
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        opened = [key.fileobj for key in selector.get_map().values() if key.fileobj is not sys.stdin]
        selector.close()
        for one in (*opened, connection):
            os.close(one if isinstance(one, int) else one.fileno())
        _run(json.loads(content), files)
    with contextlib.suppress(OSError):  # the fork was faster, or has ended
        os.setpgid(pid, pid)
    for file in files:
        os.close(file)
    _Fork(selector, connection, pid)


class _Fork:
    """A running fork. The client gets its exit code; if the client ends first, the fork is killed."""

    def __init__(self, selector, connection, pid):
        self.selector, self.connection, self.pid = selector, connection, pid
        self.ended = os.pidfd_open(pid)
        selector.register(self.ended, selectors.EVENT_READ, self)
        selector.register(connection, selectors.EVENT_READ, self)
        self.tell(pid)

    def __call__(self, _, event):
        if event is self.connection:
            self.kill()
            self.selector.unregister(self.connection)
            return
        self.selector.unregister(self.ended)
        os.close(self.ended)
        self.tell(os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]))
        if self.connection in self.selector.get_map():
            self.selector.unregister(self.connection)
        self.connection.close()

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def tell(self, number):
        with contextlib.suppress(OSError):
            self.connection.sendall(f"{number}\n".encode())


def _run(request, files):
    """Run the request in this process, and end it as Python would."""
    code = 1
    try:
        # A test in a shell's background would inherit that Ctrl-C is ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environment"])
        places = [place for place in request["environment"].get("PYTHONPATH", "").split(os.pathsep) if place]
        sys.path[:] = [request["folder"], *places, *PLACES]
        multiprocessing.process.ORIGINAL_DIR = request["folder"]  # where its processes begin
        _set_parents(request["pid"])
        importlib.invalidate_caches()
        _call(request["name"], request["argv"])
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except KeyboardInterrupt:
        code = -signal.SIGINT
    except BaseException:  # noqa: BLE001  as Python does when it ends
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            threading._shutdown()
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        if code < 0:
            signal.signal(-code, signal.SIG_DFL)
            os.kill(os.getpid(), -code)
            time.sleep(60)
        os._exit(code)


def _set_parents(pid):
    """Let psutil say that this process has the client's parents: charlm looks for DVC among them."""
    parents_of = psutil.Process.parents

    def parents(process):
        return parents_of(psutil.Process(pid) if process.pid == os.getpid() else process)

    psutil.Process.parents = parents


def _call(name, argv):
    """Run a module as `python -m` does, or call a function, in a new `__main__`: pickles and processes look there."""
    main = sys.modules["__main__"] = sys.modules["__mp_main__"] = types.ModuleType("__main__")
    if name == "python":  # -m MODULE …
        main.__spec__ = importlib.util.find_spec(argv[1])
        main.__file__ = main.__spec__.origin
        sys.argv = [main.__file__, *argv[2:]]
        exec(main.__spec__.loader.get_code(argv[1]), main.__dict__)  # noqa: S102  the tests' own command
        return
    module, _, function = COMMANDS.get(name, name).partition(":")
    sys.argv = [name if name in COMMANDS else module, *argv]
    sys.exit(getattr(importlib.import_module(module), function)())


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])

"""`charlm serve`: runs the HTTP server, on loopback unless there is a key."""

import errno
import functools
import gc
import ipaddress
import json
import logging
import multiprocessing
import os
import re
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pipeline.cli.models import DEFAULT_MODEL, ModelAddress, print_model
from pipeline.core.errors import UserError, one_line
from pipeline.params.sampling import Precision

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from pipeline.serving.completions import ConnectionLimits, Limits

KEY_VARIABLE = "CHARLM_API_KEY"
LogFormat = Literal["line", "json"]
SWITCH_SECONDS = 0.0005
# How long requests in flight may take after a stop was requested.
STOP_SECONDS = 30
# How often the supervisor looks at its workers.
SUPERVISED_SECONDS = 0.5
# The server ends when this many workers die within this many seconds.
MOST_DEATHS, DEATH_SECONDS = 5, 60
# What a browser sends as Origin.
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@\s]+")


def serve(
    model: ModelAddress = DEFAULT_MODEL,
    host: Annotated[str, typer.Option(help="Other than loopback only with a key in CHARLM_API_KEY.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free port.")] = 8000,
    precision: Annotated[Precision, typer.Option(help="bf16: faster for large networks.")] = "fp32",
    in_flight: Annotated[int, typer.Option(min=1, max=4096, help="Texts generated at once.")] = 256,
    queue: Annotated[int, typer.Option(min=0, max=100_000, help="Texts that may wait; more are answered 429.")] = 256,
    max_tokens: Annotated[int, typer.Option(min=1, max=100_000, help="Most characters of a completion.")] = 20_000,
    seconds: Annotated[float, typer.Option(min=0.1, max=3600, help="Longest time of a request.")] = 120.0,
    response_mb: Annotated[
        int, typer.Option(min=1, max=1000, help="Largest response; all together hold 8 times it.")
    ] = 32,
    connections: Annotated[int, typer.Option(min=1, max=100_000, help="Most connections; idle ones make place.")] = 512,
    header_bytes: Annotated[int, typer.Option(min=1024, max=1 << 20, help="Longest path and headers.")] = 32_768,
    header_seconds: Annotated[float, typer.Option(min=0.1, max=3600, help="Longest arrival of headers.")] = 10.0,
    body_seconds: Annotated[float, typer.Option(min=0.1, max=3600, help="Longest arrival of a body.")] = 30.0,
    send_seconds: Annotated[float, typer.Option(min=0.1, max=3600, help="Longest time without reading.")] = 30.0,
    keep_alive: Annotated[int, typer.Option(min=1, max=3600, help="Seconds between a connection's requests.")] = 75,
    cors: Annotated[
        list[str] | None, typer.Option(help="An origin whose pages may call the server: https://example.com.")
    ] = None,
    log_format: Annotated[LogFormat, typer.Option(help="json: an object a line, with ids and sizes.")] = "line",
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes; each has the model and these limits.")] = 1,
    *,
    access_log: Annotated[
        bool, typer.Option(help="Log each request: time, path, status, latency; never a prompt.")
    ] = False,
) -> None:
    """Serve a model: OpenAI's /v1/completions (streaming too), a page to play with, /docs, /metrics."""
    key = os.environ.get(KEY_VARIABLE) or None
    if key is None and not is_loopback(host):
        raise UserError(f"--host: found {host} without a key, allowed is loopback; set {KEY_VARIABLE} to open it")
    for origin in cors or ():
        if origin != "*" and not ORIGIN.fullmatch(origin):
            raise UserError(f"--cors: found {origin}, allowed is an origin without a path, like https://example.com")
    # The port is opened before the model is loaded, so that a port in use is reported at once.
    listening = listen(host, port)
    with without_collecting():
        from pipeline.serving.completions import ConnectionLimits, Limits  # pydantic and uvicorn: not for --help
        from pipeline.serving.connections import within_open_files
    work = functools.partial(
        serve_model,
        listening,
        model,
        Limits(
            max_tokens=max_tokens,
            seconds=seconds,
            in_flight=in_flight,
            queue=queue,
            response_bytes=response_mb * 1_000_000,
        ),
        ConnectionLimits(
            connections=within_open_files(connections),
            header_bytes=header_bytes,
            header_seconds=header_seconds,
            body_seconds=body_seconds,
            send_seconds=send_seconds,
            keep_alive=keep_alive,
        ),
        precision=precision,
        key=key,
        host=host,
        cors=tuple(cors or ()),
        access_log=access_log,
        log_format=log_format,
        workers=workers,
    )
    if workers == 1:
        work()
    else:
        print_address(model, host, listening)
        supervise(work, workers)


def serve_model(
    listening: socket.socket,
    model: str,
    limits: "Limits",
    of_connections: "ConnectionLimits",
    *,
    precision: Precision,
    key: str | None,
    host: str,
    cors: tuple[str, ...],
    access_log: bool,
    log_format: LogFormat,
    workers: int,
) -> None:
    """Load the model and serve it in this process, one of `workers`, until Ctrl-C or SIGTERM."""
    with without_collecting():
        import uvicorn  # these are not for --help

        from pipeline.serving.application import make_application
        from pipeline.serving.batching import lanes_and_threads
        from pipeline.serving.connections import server_config
        from pipeline.serving.middleware import LOOPBACK
        from pipeline.serving.model_source import Served, load_served, return_memory

        _, threads = lanes_and_threads(workers)

        def load() -> Served:
            served = load_served(model, precision=precision, threads=threads)
            return_memory()
            print_model(model, version=served.card["version"], perplexity=served.card["perplexity"])
            return served

        app = make_application(load, limits=limits, key=key, hosts=(*LOOPBACK, host), cors=cors, workers=workers)
    if workers == 1:
        print_address(model, host, listening)
    # The event loop and the batcher's threads alternate many times a second: Python's default of 5 ms is too long.
    sys.setswitchinterval(SWITCH_SECONDS)
    config = server_config(
        app,
        of_connections,
        log_config=log_config(access=access_log, form=log_format),
        log_level=logging.WARNING,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    with suppress(KeyboardInterrupt):  # Ctrl-C, raised again by uvicorn after the stop
        uvicorn.Server(config).run(sockets=[listening])


def print_address(model: str, host: str, listening: socket.socket) -> None:
    """Print where the server is."""
    shown = f"[{host}]" if ":" in host else host
    print(f"charlm: {model} at http://{shown}:{listening.getsockname()[1]}/  (API: /docs, Ctrl-C ends)", flush=True)


def supervise(work: Callable[[], None], workers: int) -> None:
    """Run `work` in `workers` processes until Ctrl-C or SIGTERM. One that dies is started again, unless it cannot work.

    If they die again and again, the exit code is 1, so that whatever started the server notices.
    They accept connections from one socket, which stays open meanwhile, so that clients wait instead of being refused.
    """
    context = multiprocessing.get_context("spawn")  # threads of this process must not be copied
    has_ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: has_ended.set())
    running: list[BaseProcess] = []
    first: list[BaseProcess] = []
    deaths: deque[float] = deque(maxlen=MOST_DEATHS)
    exit_code = 0
    while not has_ended.is_set():
        for worker in [one for one in running if one.exitcode is not None]:
            running.remove(worker)
            if worker in first and worker.exitcode == UserError.exit_code:  # it has said why; the others fail too
                exit_code = UserError.exit_code
                has_ended.set()
            else:
                print(f"a worker died (exit code {worker.exitcode}) and is replaced", file=sys.stderr, flush=True)
                deaths.append(time.monotonic())
        if len(deaths) == MOST_DEATHS and deaths[-1] - deaths[0] < DEATH_SECONDS:
            print(f"{MOST_DEATHS} workers died within {DEATH_SECONDS} seconds: the server ends", file=sys.stderr)
            exit_code = 1
            has_ended.set()
        while len(running) < workers and not has_ended.is_set():
            running.append(context.Process(target=run_worker, args=(work,)))
            running[-1].start()
        first = first or list(running)
        has_ended.wait(SUPERVISED_SECONDS)
    for worker in running:
        worker.terminate()
    for worker in running:
        worker.join()
    sys.exit(exit_code)


def run_worker(work: Callable[[], None]) -> None:
    """Run `work`, and end as on SIGTERM when the supervisor is gone."""
    supervisor = multiprocessing.parent_process()

    def follow() -> None:
        if supervisor is not None:
            supervisor.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=follow, daemon=True).start()
    try:
        with suppress(KeyboardInterrupt):  # before the server has begun
            work()
    except UserError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(error.exit_code)


@contextmanager
def without_collecting() -> Iterator[None]:
    """Let Python not look for garbage in what is loaded meanwhile, now or later.

    All of it stays. Looking through it takes a tenth of the start, and later a tenth of a second while requests wait.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Formatter(logging.Formatter):
    """Formats the time of a record as UTC in ISO 8601, with milliseconds."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802  logging's own name
        """Return the time, like 2026-11-24T15:43:53.123Z."""
        del datefmt
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class JsonFormatter(Formatter):
    """Formats a record as an object: time, level, logger, and the fields of a request or a message."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line of JSON."""
        head = {"time": self.formatTime(record), "level": record.levelname, "logger": record.name}
        request = getattr(record, "request", None)
        rest = dict(request) if isinstance(request, dict) else {"message": record.getMessage()}
        if record.exc_info:
            rest["traceback"] = self.formatException(record.exc_info)
        return json.dumps(head | rest, ensure_ascii=False)


def log_config(*, access: bool, form: LogFormat = "line") -> dict[str, Any]:
    """Return the configuration for `logging`: requests to standard output (if `access`), the rest to standard error."""
    from pipeline.serving.middleware import ACCESS, SERVER

    def handler(stream: str) -> dict[str, Any]:
        return {"class": "logging.StreamHandler", "formatter": form, "stream": f"ext://sys.{stream}"}

    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {"()": Formatter, "fmt": "%(asctime)s %(levelname)s %(name)s %(message)s"},
            "json": {"()": JsonFormatter},
        },
        "handlers": {"out": handler("stdout"), "err": handler("stderr")},
        "loggers": {
            "uvicorn": {"handlers": ["err"], "level": "WARNING", "propagate": False},
            SERVER.name: {"handlers": ["err"], "level": "INFO", "propagate": False},
            ACCESS.name: {"handlers": ["out"], "level": "INFO" if access else "WARNING", "propagate": False},
        },
    }


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens at `host` and `port` (0: any free one); UserError if that is not possible.

    Connections made before `run` wait.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            message = f"{port} on {host} is in use by another process; choose another, or --port 0 for any free one"
            raise UserError(f"--port: {message}") from None
        if error.errno == errno.EACCES:
            raise UserError(
                f"--port: found {port}, which needs root's rights; allowed are 1024 to 65535, or 0"
            ) from None
        raise UserError(f"--host: cannot listen at {host}: {error.strerror or error}") from None

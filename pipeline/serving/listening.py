"""Opens the port before the model is loaded, so that a port in use is reported at once; runs uvicorn; logging."""

import errno
import logging
import socket
from datetime import UTC, datetime
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from pipeline.core.errors import UserError

SERVER = logging.getLogger("charlm.server")
ACCESS = logging.getLogger("charlm.access")


class Formatter(logging.Formatter):
    """Formats the time of a record as UTC in ISO 8601, with milliseconds."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802  logging's own name
        """Return the time, like 2026-11-24T15:43:53.123Z."""
        del datefmt
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def log_config(*, access: bool) -> dict[str, Any]:
    """Return the configuration for `logging`: requests to standard output (if `access`), the rest to standard error."""

    def handler(stream: str) -> dict[str, Any]:
        return {"class": "logging.StreamHandler", "formatter": "line", "stream": f"ext://sys.{stream}"}

    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": Formatter, "fmt": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
        "handlers": {"out": handler("stdout"), "err": handler("stderr")},
        "loggers": {
            "uvicorn": {"handlers": ["err"], "level": "WARNING", "propagate": False},
            SERVER.name: {"handlers": ["err"], "level": "INFO", "propagate": False},
            ACCESS.name: {"handlers": ["out"], "level": "INFO" if access else "WARNING", "propagate": False},
        },
    }


STOP_SECONDS = 30


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


def run(app: ASGIApp, listening: socket.socket, *, access_log: bool) -> None:
    """Serve `app` until Ctrl-C or SIGTERM; requests in flight then have STOP_SECONDS to finish."""
    config = uvicorn.Config(
        app,
        log_config=log_config(access=access_log),
        log_level=logging.WARNING,
        access_log=False,
        timeout_graceful_shutdown=STOP_SECONDS,
        server_header=False,
    )
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:  # Ctrl-C, raised again by uvicorn after the stop
        return

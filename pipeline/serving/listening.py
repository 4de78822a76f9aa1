"""The server's port: opened before the model is loaded, so that a port in use is found in milliseconds."""

import errno
import logging
import socket

import uvicorn
from starlette.types import ASGIApp

from pipeline.errors import UserError
from pipeline.serving.logs import log_config

STOP_SECONDS = 30


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens at `host` and `port` (0: any free one); UserError if that is not possible.

    Connections that come before `run` wait.
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
        app, log_config=log_config(access=access_log), log_level=logging.WARNING, access_log=False,
        timeout_graceful_shutdown=STOP_SECONDS, server_header=False,
    )  # fmt: skip
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:  # Ctrl-C, raised again by uvicorn after the stop
        return

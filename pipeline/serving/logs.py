"""How the server logs: one line an event, its UTC time (ISO 8601) first."""

import logging
from datetime import UTC, datetime
from typing import Any

SERVER = logging.getLogger("charlm.server")
ACCESS = logging.getLogger("charlm.access")


class Formatter(logging.Formatter):
    """Formats the time of a record as UTC in ISO 8601, with milliseconds."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802  logging's own name
        """Return the time, like 2026-11-24T15:43:53.123Z."""
        del datefmt
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def log_config(*, access: bool) -> dict[str, Any]:
    """Return the configuration for `logging`: requests on standard output (if `access`), all else on standard error."""

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

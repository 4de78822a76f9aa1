"""What can be seen of the server from outside: figures for Prometheus, and the log of requests."""

import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import quote

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from pipeline.serving.logs import ACCESS

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120)
# Status of a request whose client closed the connection before the response's end: nginx's number for it.
CLIENT_CLOSED = 499
# A path is logged up to this length.
LOGGED_PATH_CHARS = 200


class Figures:
    """What is counted. `registry` is what /metrics shows; it is this server's alone."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("charlm_requests", "Requests answered", ["route", "status"], registry=self.registry)
        self.seconds = Histogram(
            "charlm_request_seconds",
            "Time from a completions request to the end of its response",
            buckets=SECONDS,
            registry=self.registry,
        )
        self.first = Histogram(
            "charlm_first_character_seconds",
            "Time from a completions request to its first character",
            buckets=SECONDS,
            registry=self.registry,
        )
        self.characters = Counter("charlm_characters", "Characters written", registry=self.registry)
        self.streams = Gauge("charlm_streams", "Streams that are open", registry=self.registry)
        self.active = Gauge("charlm_texts_active", "Completions being written", registry=self.registry)
        self.waiting = Gauge("charlm_texts_waiting", "Completions waiting for a place", registry=self.registry)


class Observing:
    """Plain ASGI: counts and logs each request when its response ends.

    Counts are by route and status; a path that is no route counts as "none". The log has the path without its query,
    and never a body, so no prompt. A response that the client did not wait for has status 499.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], requests: Counter) -> None:
        self.app = app
        self.requests = requests

    async def __call__(
        self, scope: MutableMapping[str, Any], receive: Any, send: Callable[..., Awaitable[None]]
    ) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        status, ended = 500, False

        async def noting(message: MutableMapping[str, Any]) -> None:
            nonlocal status, ended
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)
            ended = message["type"] == "http.response.body" and not message.get("more_body", False)

        failed = False
        try:
            await self.app(scope, receive, noting)
        except Exception:
            failed = True
            raise
        finally:
            status = status if ended else 500 if failed else CLIENT_CLOSED
            self.requests.labels(getattr(scope.get("route"), "path", "none"), str(status)).inc()
            ACCESS.info(
                "client=%s method=%s path=%s status=%d ms=%.1f",
                (scope.get("client") or ("-",))[0], scope["method"], quote(scope["path"])[:LOGGED_PATH_CHARS],
                status, 1000 * (time.perf_counter() - started),
            )  # fmt: skip

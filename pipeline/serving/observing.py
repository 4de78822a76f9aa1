"""The server's own figures, for Prometheus."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120)


class Figures:
    """What is counted. `registry` is what /metrics shows; it is this server's alone."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("charlm_requests", "Requests answered", ["route", "status"], registry=self.registry)
        self.seconds = Histogram(
            "charlm_request_seconds", "From a request to its answer's end", buckets=SECONDS, registry=self.registry
        )
        self.first = Histogram(
            "charlm_first_character_seconds",
            "From a request to its first character",
            buckets=SECONDS,
            registry=self.registry,
        )
        self.characters = Counter("charlm_characters", "Characters written", registry=self.registry)
        self.streams = Gauge("charlm_streams", "Streams that are open", registry=self.registry)
        self.active = Gauge("charlm_texts_active", "Texts being written", registry=self.registry)
        self.waiting = Gauge("charlm_texts_waiting", "Texts waiting for a place", registry=self.registry)


class Counting:
    """Plain ASGI: counts answers by route and status. What is asked for by another path counts as "none"."""

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
        status = "none"

        async def noting(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            await self.app(scope, receive, noting)
        finally:
            self.requests.labels(getattr(scope.get("route"), "path", "none"), status).inc()

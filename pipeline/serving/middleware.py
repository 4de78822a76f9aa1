"""ASGI middleware: checks the key, the host and the body's size, sets security headers, logs and counts requests."""

import hmac
import ipaddress
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from functools import cache
from random import getrandbits
from typing import Any
from urllib.parse import quote

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.datastructures import Headers
from starlette.responses import JSONResponse

from pipeline.serving.completions import error_body
from pipeline.serving.connections import CUT_OFF

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

SERVER = logging.getLogger("charlm.server")
ACCESS = logging.getLogger("charlm.access")

LOOPBACK = ("localhost", "127.0.0.1", "::1")
# Paths that need no key: health checks, and the page, which then asks for the key.
PUBLIC_PATHS = ("/healthz", "/readyz", "/", "/page/", "/docs", "/swagger/", "/openapi.json")
SECURITY_HEADERS = {
    b"content-security-policy": b"default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
}
# Swagger's page has an inline script.
DOCS_HEADERS = SECURITY_HEADERS | {
    b"content-security-policy": b"default-src 'self'; script-src 'self' 'unsafe-inline'; "
    b"style-src 'self' 'unsafe-inline'; img-src 'self' data:"
}


# A Host header: a name or an IPv6 address in brackets, then perhaps a port.
HOST = re.compile(r"(?:\[(?P<address>[0-9a-f:.]+)\]|(?P<name>[^\[\]:@/\s]+?)\.?)(?::\d{1,5})?", re.IGNORECASE)
# Bodies of this size, of all requests together, may be held; clients that send more at once try again.
BODIES_HELD = 32


class Guard:
    """Passes permitted requests on and refuses the others. An error that nobody handled is a response with status 500.

    With `key`, requests need `Authorization: Bearer KEY`. Without one the server is on loopback only, and the
    Host header must be one of `hosts`, so that a page of another site cannot reach it through DNS rebinding.
    """

    def __init__(self, app: App, *, key: str | None, hosts: Sequence[str], body_bytes: int) -> None:
        self.app = app
        self.key = key
        self.hosts = frozenset(host.lower() for host in hosts)
        self.body_bytes = body_bytes
        self.held_bytes = 0

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers, path = Headers(scope=scope), scope["path"]
        secured = _with_headers(send, DOCS_HEADERS if path == "/docs" else SECURITY_HEADERS)
        if self.key is None and _host(headers.getlist("host")) not in self.hosts:
            refusal = _refusal(403, "the server does not have this name", code="wrong_host")
        elif self.key is not None and not _is_public(path) and not self._has_key(headers.get("authorization", "")):
            refusal = _refusal(401, "a key is needed: Authorization: Bearer KEY", code="invalid_api_key")
        elif _length(headers) > self.body_bytes:
            refusal = self._too_large()
        else:
            await self._let_through(scope, receive, secured)
            return
        await refusal(scope, receive, secured)

    async def _let_through(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Pass the request on; the body is counted while it arrives, since it may have no Content-Length."""
        taken, has_begun, refusal = 0, False, None

        async def counted_receive() -> Message:
            nonlocal taken, refusal
            message = await receive()
            size = len(message.get("body", b""))
            taken += size
            self.held_bytes += size
            if taken > self.body_bytes:
                refusal = self._too_large()
            elif self.held_bytes > BODIES_HELD * self.body_bytes:
                refusal = _refusal(429, "too many large bodies are arriving; try again soon", code="bodies_full")
            if refusal is not None:
                raise _RefusedError
            return message

        async def observed_send(message: Message) -> None:
            nonlocal has_begun
            if has_begun or refusal is None:  # do not send the response to a body that was cut off
                has_begun = True
                await send(message)

        try:
            await self.app(scope, counted_receive, observed_send)
        except _RefusedError:
            pass
        except Exception:  # noqa: BLE001  it is logged, and the client gets a response
            SERVER.exception("%s %s failed", scope["method"], quote(scope["path"])[:LOGGED_PATH_CHARS])
            if has_begun:
                cut_off(scope)
                return
            refusal = _refusal(500, "an error in the server; its log has the details", code="internal")
        finally:
            self.held_bytes -= taken
        if refusal is not None and not has_begun:
            await refusal(scope, receive, send)

    def _has_key(self, header: str) -> bool:
        scheme, _, given = header.partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), (self.key or "").encode())

    def _too_large(self) -> JSONResponse:
        return _refusal(413, f"the body has more than {self.body_bytes:,} bytes", code="body_too_large")


class _RefusedError(Exception):
    """The body, or all bodies together, are larger than allowed."""


def cut_off(scope: MutableMapping[str, Any]) -> None:
    """Close the connection of a request whose response cannot be completed."""
    close = scope.get("extensions", {}).get(CUT_OFF)
    if close is not None:
        close()


def _refusal(status: int, message: str, *, code: str) -> JSONResponse:
    headers = {401: {"www-authenticate": "Bearer"}, 429: {"retry-after": "1"}}.get(status)
    kind = "server_error" if status in (429, 500) else "invalid_request_error"
    return JSONResponse(error_body(message, kind=kind, code=code), status, headers=headers)


def _host(headers: Sequence[str]) -> str:
    """Return the name in the Host header, in lower case and without its port; "" unless there is one valid header."""
    found = HOST.fullmatch(headers[0]) if len(headers) == 1 else None
    if found is None:
        return ""
    if found["name"]:
        return str(found["name"]).lower()
    try:
        return str(ipaddress.IPv6Address(found["address"]))
    except ValueError:
        return ""


def _is_public(path: str) -> bool:
    return any(path == one or (one.endswith("/") and one != "/" and path.startswith(one)) for one in PUBLIC_PATHS)


def _length(headers: Headers) -> int:
    given = headers.get("content-length", "0")
    return int(given) if given.isdecimal() and len(given) < 20 else 1 << 62


def _with_headers(send: Send, added: Mapping[bytes, bytes]) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = message["headers"]
            if added.keys().isdisjoint([name for name, _ in headers]):
                message["headers"] = [*headers, *added.items()]
            else:
                message["headers"] = list({**added, **dict(headers)}.items())
        await send(message)

    return sending


SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120)
# nginx's status for a request whose client closed the connection before the end of the response.
CLIENT_CLOSED = 499
# Longer paths are cut in the log.
LOGGED_PATH_CHARS = 200


class Metrics:
    """The metrics that /metrics shows; `registry` belongs to this server alone."""

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


class AccessLog:
    """Counts and logs each request when its response ends.

    Requests are counted by route and status; unknown paths count as "none". The log has the path without its query and
    never a body, so no prompt. If the client disconnected before the end, the status is 499. A record has all fields as
    its attribute `request`, for a log in JSON; the response has the request's id as a header.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], requests: Counter) -> None:
        self.app = app
        self._counters = cache(requests.labels)

    async def __call__(
        self, scope: MutableMapping[str, Any], receive: Any, send: Callable[..., Awaitable[None]]
    ) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id, status, ended, sent = f"{getrandbits(64):016x}", 500, False, 0

        async def observed_send(message: MutableMapping[str, Any]) -> None:
            nonlocal status, ended, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)
            sent += len(message.get("body", b""))
            ended = message["type"] == "http.response.body" and not message.get("more_body", False)

        try:
            await self.app(scope, receive, observed_send)
        finally:
            status = status if ended else CLIENT_CLOSED
            self._counters(getattr(scope.get("route"), "path", "none"), str(status)).inc()
            if ACCESS.isEnabledFor(logging.INFO):
                _log(scope, status, started, request_id=request_id, sent=sent)


def _log(scope: MutableMapping[str, Any], status: int, started: float, *, request_id: str, sent: int) -> None:
    request = {
        "client": (scope.get("client") or ("-",))[0],
        "method": scope["method"],
        "path": quote(scope["path"])[:LOGGED_PATH_CHARS],
        "status": status,
        "ms": round(1000 * (time.perf_counter() - started), 1),
    }
    sizes = {"request_bytes": _content_length(scope), "response_bytes": sent}
    line = " ".join(f"{name}={value}" for name, value in request.items())
    ACCESS.info(line, extra={"request": {"id": request_id, **request, **sizes}})


def _content_length(scope: MutableMapping[str, Any]) -> int:
    """Return the size of a request's body as its header states it, 0 without one."""
    value = Headers(scope=scope).get("content-length", "")
    return int(value) if value.isascii() and value.isdigit() and len(value) < MOST_DIGITS else 0


# More digits than any size has.
MOST_DIGITS = 19

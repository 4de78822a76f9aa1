"""Connections: limits on their number, their headers, and the time that a client may take. An extension of uvicorn.

A connection is either answered by the server, or waits for its client: for headers, a body, the next request, or for it
to read. Waiting ends after a time, and when there are too many connections, the one that has waited longest is closed
for the new one. So clients that do nothing never take the place of one that does.
"""

import asyncio
import functools
import json
import sys
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast

import httptools
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from pipeline.serving.completions import ConnectionLimits, error_body

# The names under which an application finds, in scope["extensions"], the function that closes a request's connection,
# and the one that takes what to call when it is lost (None: nothing).
CUT_OFF = "charlm.cut_off"
WHEN_LOST = "charlm.when_lost"
# Files that the process may need besides its connections.
OTHER_FILES = 64
# Requests that a client may send before the first is answered. Clients that do this at all send few.
MOST_PIPELINED = 8
# How long a client may take nothing of its response, or send nothing of its request, once the server is stopping.
STOPPING_SECONDS = 5.0


def within_open_files(connections: int) -> int:
    """Return `connections`, or what the process's limit of open files leaves for them if that is less."""
    if sys.platform == "win32":
        return connections
    import resource  # not on Windows

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return connections if limit == resource.RLIM_INFINITY else max(1, min(connections, limit - OTHER_FILES))


def server_config(app: ASGIApp, limits: ConnectionLimits, **options: Any) -> uvicorn.Config:
    """Return uvicorn's configuration for `app` with `limits`; `options` are uvicorn's own."""
    http = functools.partial(Connection, limits=limits, waiting={})
    return uvicorn.Config(
        app,
        http=cast("type[asyncio.Protocol]", http),  # uvicorn only calls it
        ws="none",
        timeout_keep_alive=limits.keep_alive,
        access_log=False,
        server_header=False,
        **options,
    )


class _RefusedError(Exception):
    """Raised in a callback of the parser, to stop it."""


class Connection(HttpToolsProtocol):
    """A connection with `limits`. `waiting` are the server's connections that wait for their client, longest first."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: ConnectionLimits,
        waiting: "dict[Connection, None]",
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.limits = limits
        self.waiting = waiting
        self._send_seconds = limits.send_seconds
        self._answering = False
        self._has_begun = False  # part of a request has arrived
        self._size = 0  # of the request's path and headers, as far as they are parsed
        self._unparsed = 0  # bytes since the parser last reported something
        self._deadline: float | None = None  # until when the request must have arrived
        self._timer: asyncio.TimerHandle | None = None  # looks at the deadline, which changes more often
        self._answered: RequestResponseCycle | None = None  # the newest cycle, or one before it if requests wait
        self._is_lost = False
        self._when_lost: Callable[[], None] | None = None  # what the request being answered has left
        self._extensions = {CUT_OFF: self.cut_off, WHEN_LOST: self.call_when_lost}
        self._stalled: asyncio.TimerHandle | None = None  # until when the client must have read

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request. If there are too many connections, close the one that has waited longest."""
        super().connection_made(transport)
        self._wait(self.limits.header_seconds)
        if len(self.connections) > self.limits.connections:
            longest = next(iter(self.waiting))
            if longest is self:  # all others are being answered
                self._refuse(503, "too many connections; try again soon")
            else:
                longest.cut_off()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.waiting.pop(self, None)
        self._set_deadline(None)
        if self._timer is not None:
            self._timer.cancel()
        self._set_stalled(None)
        super().connection_lost(exc)
        self._lose()
        self._unset_keepalive_if_required()

    def data_received(self, data: bytes) -> None:
        """Parse the next bytes of a request."""
        self._unset_keepalive_if_required()
        if not self._has_begun:
            self._has_begun = True
            if not self._answering:
                self._wait(self.limits.header_seconds)
        self._unparsed += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # answered as any other request: there is no other protocol here
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, _RefusedError):
                self._refuse_headers()
            else:
                self._refuse(400, "the request is not valid HTTP")
        else:
            if self._unparsed > self.limits.header_bytes:
                self._refuse_headers()

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        cast("dict[str, Any]", self.scope)["extensions"] = self._extensions
        self._has_begun, self._size = True, 0

    def on_url(self, url: bytes) -> None:
        """Take a part of the request's path."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, or a trailer after a body."""
        self._count(len(name) + len(value) + len(b": \r\n"))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the request, and wait for its body."""
        super().on_headers_complete()
        if len(self.pipeline) > MOST_PIPELINED:
            raise _RefusedError
        if not self.pipeline:
            self._answered = self.cycle
        self._unparsed = 0
        # The body of a request whose turn has not come is not read.
        self._wait(None if self.pipeline else self.limits.body_seconds)

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._unparsed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Stop waiting: the request is complete."""
        super().on_message_complete()
        self._has_begun, self._unparsed = False, 0
        if self.cycle.response_complete:  # refused before its body had arrived
            self._wait(self.limits.keep_alive)
        else:
            self._answering = True
            self._set_deadline(None)
            if not self.flow.write_paused:
                self.waiting.pop(self, None)

    def on_response_complete(self) -> None:
        """Wait for the next request, or close."""
        if self.pipeline and not self.transport.is_closing():
            self._answered = self.pipeline[-1][0]
        super().on_response_complete()
        if self.transport.is_closing():
            self._close()
        elif self.cycle.more_body:
            self._wait(self.limits.body_seconds)
        elif self.cycle.response_complete:  # uvicorn has its own timer for the time between requests
            self._wait(self.limits.header_seconds if self._has_begun else None)

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection: no request has come for a long time."""
        self._close()

    def pause_writing(self) -> None:
        """Wait for the client to read."""
        super().pause_writing()
        self.waiting[self] = None
        self._set_stalled(self._send_seconds)

    def resume_writing(self) -> None:
        """Continue: the client has read."""
        super().resume_writing()
        self._set_stalled(None)
        if self._answering:
            self.waiting.pop(self, None)

    def shutdown(self) -> None:
        """Close the connection, or let its request end; from now on a client that does nothing is cut off soon."""
        super().shutdown()
        self._send_seconds = min(self._send_seconds, STOPPING_SECONDS)
        if self.transport.is_closing() or self.flow.write_paused:
            self._set_stalled(self._send_seconds)
        if not self._answering:
            self._wait(min(self.limits.body_seconds, STOPPING_SECONDS))

    def cut_off(self) -> None:
        """Close the connection now, without what was not yet sent."""
        self._lose()
        self.transport.abort()

    def call_when_lost(self, call: Callable[[], None] | None) -> None:
        """Call `call` as soon as the request that is being answered has lost its client."""
        self._when_lost = call
        if call is not None and self._is_lost:
            call()

    def _lose(self) -> None:
        """Let the request end: its client has disconnected, or is treated as if it had."""
        self._is_lost = True
        for cycle in (self.cycle, self._answered):
            if cycle is not None:
                cycle.disconnected = True
                cycle.message_event.set()
        if self._when_lost is not None:
            self._when_lost()

    def _count(self, size: int) -> None:
        self._size += size
        self._unparsed = 0
        if self._size > self.limits.header_bytes:
            raise _RefusedError

    def _refuse_headers(self) -> None:
        self._refuse(431, f"the path and headers have more than {self.limits.header_bytes:,} bytes")

    def _refuse(self, status: int, message: str) -> None:
        """Send an error, unless another response has begun, and close."""
        cycle = self.cycle
        is_open = cycle is not None and (not cycle.response_complete or cycle.more_body)
        if self.pipeline or (is_open and cycle.response_started):
            self.cut_off()
            return
        if is_open:
            self._lose()
        body = json.dumps(error_body(message, kind="invalid_request_error")).encode()
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self._close()

    def _close(self) -> None:
        """Close the connection when everything is sent; it may not take long."""
        if not self.transport.is_closing():
            self.transport.close()
        self._set_stalled(self._send_seconds)

    def _wait(self, seconds: float | None) -> None:
        """Become the last of the waiting connections, for at most `seconds` (None: another timer ends it)."""
        self._answering = False
        self.waiting.pop(self, None)
        self.waiting[self] = None
        self._set_deadline(None if seconds is None else self.loop.time() + seconds)

    def _set_deadline(self, deadline: float | None) -> None:
        """Set or unset the deadline. A timer that comes too early is left: most deadlines do not come."""
        self._deadline = deadline
        if deadline is None or (self._timer is not None and self._timer.when() <= deadline):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_at(deadline, self._look)

    def _look(self) -> None:
        deadline, self._timer = self._deadline, None
        if deadline is not None and deadline <= self.loop.time():
            self._expire()
        else:
            self._set_deadline(deadline)

    def _set_stalled(self, seconds: float | None) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
        self._stalled = None if seconds is None else self.loop.call_later(seconds, self.cut_off)

    def _expire(self) -> None:
        """End the wait for the rest of a request."""
        if self._has_begun:
            self._refuse(408, "the request took too long to arrive")
        else:
            self._close()

"""The response to a completions request: one object, a stream of server-sent events, or an error in OpenAI's form."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from random import getrandbits
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from prometheus_client import Histogram
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from pipeline.core.errors import UserError
from pipeline.core.reproducible import sample_seed
from pipeline.generation.text import Writer
from pipeline.params.sampling import Sampling
from pipeline.serving.batching import Batcher, Update, Writing
from pipeline.serving.completions import BUSY, Budget, CompletionRequest, UnknownModelError, error_body, usage_of
from pipeline.serving.connections import WHEN_LOST
from pipeline.serving.middleware import SERVER, Metrics, cut_off
from pipeline.serving.model_source import Served
from pipeline.serving.pieces import Choice, Piece, PromptState, body_of, dumps, join, logprobs_of

T = TypeVar("T")

# Responses up to this size are built by the event loop; larger ones by a thread, part by part.
SMALL_BYTES = 16_000
# A prompt of this many characters is encoded by that thread.
SMALL_PROMPT = 2_000
# How long a client that was too slow may take for the event that says so.
LAST_EVENT_SECONDS = 1.0
# One thread: it takes turns with the event loop, and responses take turns part by part.
_builder = ThreadPoolExecutor(1, thread_name_prefix="response-builder")


class CompletionResponse(Response):
    """The response to one request, which may take up to `seconds`; `metrics` count it, `budget` limits all of them.

    UserError if the model lacks the characters that `sampling` allows.
    """

    def __init__(
        self,
        request: CompletionRequest,
        served: Served,
        sampling: Sampling,
        batcher: Batcher,
        budget: Budget,
        *,
        seconds: float,
        metrics: Metrics,
    ) -> None:
        super().__init__()
        served.writer.check(sampling)
        self.request = request
        self.writer: Writer = served.writer
        self.read_before = served.read_before
        self.sampling = sampling
        self.batcher = batcher
        self.budget = budget
        self.metrics = metrics
        self.started = time.perf_counter()
        self.seconds = seconds
        self.prompt_chars = sum(map(len, request.prompts))
        self.is_small = request.response_bytes <= SMALL_BYTES
        self.head = {
            "id": f"cmpl-{getrandbits(128):032x}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": served.card["name"],
            "system_fingerprint": f"charlm-{served.card['version'] or 'folder'}",
            "seed": sampling.seed,
        }
        self.has_begun = False
        self.offsets = [0] * (len(request.prompts) * request.samples)
        self.written = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response; stop as soon as the client has disconnected."""
        task, has_left = asyncio.current_task(), False

        def leave() -> None:
            nonlocal has_left
            has_left = task is not None and task.cancel()

        when_lost = scope.get("extensions", {}).get(WHEN_LOST)
        try:
            with self.budget.hold(self.request.response_bytes):
                if when_lost is not None:
                    when_lost(leave)
                await self._answer(scope, send)
        except asyncio.CancelledError:
            if not has_left or task is None:
                raise
            task.uncancel()
        finally:
            if when_lost is not None:
                when_lost(None)

    async def _answer(self, scope: Scope, send: Send) -> None:
        """Generate the texts and send them, in no more than `seconds`."""
        writing = None
        try:
            async with asyncio.timeout(self.seconds):
                self.prompts, self.warnings = await self._build(self._encode, small=self.prompt_chars <= SMALL_PROMPT)
                writing = Writing(self.batcher, list(self._texts()), whole=not self.request.stream)
                await (self._send_events(writing, send) if self.request.stream else self._send_whole(writing, send))
        except Exception as error:
            if not self.has_begun:
                raise
            await self._end_early(error, scope, send)
        finally:
            if writing is not None:
                writing.close()

    async def _send_whole(self, writing: Writing, send: Send) -> None:
        """Send the response as one object."""
        pieces: dict[int, Choice] = {}
        async for update in writing.updates():
            self._count(update)
            pieces[update.number] = Choice(self._with_echo(update), update.finish_reason)
        self._observe(self.metrics.first)
        tail = {"usage": self._usage()} | ({"warnings": self.warnings} if self.warnings else {})
        parts = body_of(self.head, [pieces[number] for number in sorted(pieces)], self.writer.dictionary.symbols, tail)
        headers = [(b"content-type", b"application/json")]
        part, following = await self._part(parts), await self._part(parts)
        if following is None:
            headers.append((b"content-length", str(len(part or b"")).encode()))
        await self._start(send, headers)
        while part is not None:
            await send({"type": "http.response.body", "body": part, "more_body": following is not None})
            part, following = following, None if following is None else await self._part(parts)
        self._observe(self.metrics.seconds)

    async def _part(self, parts: Iterator[bytes]) -> bytes | None:
        return await self._build(next, parts, None, small=self.is_small)

    async def _send_events(self, writing: Writing, send: Send) -> None:
        """Send server-sent events, the last one [DONE]."""
        self.metrics.streams.inc()
        try:
            await self._start(send, [(b"content-type", b"text/event-stream; charset=utf-8")])
            async for event in self._events(writing):
                await send({"type": "http.response.body", "body": event, "more_body": True})
            self._observe(self.metrics.seconds)
            await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False})
        finally:
            self.metrics.streams.dec()

    async def _events(self, writing: Writing) -> AsyncIterator[bytes]:
        async for update in writing.updates():
            if update.piece.text and not self.written:
                self._observe(self.metrics.first)
            self._count(update)
            parts = list(join(self._with_echo(update)).cut())
            for part in parts:
                reason = update.finish_reason if part is parts[-1] else None
                is_small = self.is_small or part.scores is None
                yield await self._build(self._event, update.number, part, reason, small=is_small)
        if self.request.stream_options is not None and self.request.stream_options.include_usage:
            yield _event(self.head | {"choices": [], "usage": self._usage()})

    async def _end_early(self, error: Exception, scope: Scope, send: Send) -> None:
        """End a response that has begun: a stream with an event that says why, if the client takes it."""
        if not isinstance(error, (UserError, *BUSY)):
            SERVER.error("a response failed", exc_info=error)
        if self.request.stream:
            event = {"type": "http.response.body", "body": _event(describe_error(error)[1]), "more_body": False}
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_EVENT_SECONDS):
                    await send(event)
                    return
        cut_off(scope)

    async def _start(self, send: Send, headers: list[tuple[bytes, bytes]]) -> None:
        self.has_begun = True
        await send({"type": "http.response.start", "status": 200, "headers": headers})

    async def _build(self, build: Callable[..., T], *arguments: Any, small: bool) -> T:
        """Return build(*arguments), in the builder's thread unless it is `small`."""
        if small:
            return build(*arguments)
        return await asyncio.get_running_loop().run_in_executor(_builder, build, *arguments)

    def _encode(self) -> tuple[list[PromptState], list[str]]:
        """Return the prompts, not yet read, and warnings about their unknown characters."""
        request = self.request
        prompts = [
            PromptState(
                self.writer,
                prompt,
                self.read_before,
                alternatives=request.logprobs,
                echoes=bool(request.echo),
                is_continued=self.sampling.max_new_chars > 0,
            )
            for prompt in request.prompts
        ]
        return prompts, list(dict.fromkeys(warning for one in prompts for warning in one.warnings))

    def _texts(self) -> Iterator[tuple[PromptState, Sampling]]:
        for prompt in self.prompts:
            for number in range(self.request.samples):
                seed = sample_seed(self.sampling.seed, number)
                yield prompt, replace(self.sampling, seed=seed) if number else self.sampling

    def _with_echo(self, update: Update) -> list[Piece]:
        """Return the pieces of an update, after the prompt's if the update is its text's first."""
        if not self.request.echo or self.offsets[update.number]:
            return [update.piece]
        return [*self.prompts[update.number // self.request.samples].echo, update.piece]

    def _event(self, number: int, piece: Piece, finish_reason: str | None) -> bytes:
        logprobs = logprobs_of(piece, self.writer.dictionary.symbols, self.offsets[number])
        self.offsets[number] += len(piece.text)
        choice = {"index": number, "text": piece.text, "logprobs": logprobs, "finish_reason": finish_reason}
        return _event(self.head | {"choices": [choice]})

    def _count(self, update: Update) -> None:
        self.written += len(update.piece.text)
        self.metrics.characters.inc(len(update.piece.text))

    def _usage(self) -> dict[str, int]:
        return usage_of(self.prompt_chars, self.written)

    def _observe(self, figure: Histogram) -> None:
        figure.observe(time.perf_counter() - self.started)


def _event(body: dict[str, Any]) -> bytes:
    return f"data: {dumps(body)}\n\n".encode()


RETRY_AFTER_SECONDS = 1
NOT_FOUND = 404
NO_SUCH_PATH = "no such path; POST /v1/completions completes text (there is no chat), /docs lists all paths"
# What is answered with an error object.
ERRORS: tuple[type[Exception], ...] = (UserError, HTTPException, *BUSY)


def add_error_handlers(app: FastAPI) -> None:
    """Make `app` respond to errors in requests."""

    async def answer(_: Request, error: Exception) -> JSONResponse:
        return error_response(error)

    kinds: tuple[type[Exception], ...] = (RequestValidationError, *ERRORS)
    for kind in kinds:
        app.add_exception_handler(kind, answer)


def error_response(error: Exception) -> JSONResponse:
    """Return the response that describes `error`."""
    status, body = describe_error(error)
    headers = {"retry-after": str(RETRY_AFTER_SECONDS)} if type(error) in BUSY else None
    return JSONResponse(body, status, headers=headers)


def describe_error(error: Exception) -> tuple[int, dict[str, Any]]:
    """Return the HTTP status and the error object for `error`."""
    if type(error) in BUSY:
        status, message, code = BUSY[type(error)]
        return status, error_body(message, kind="server_error", code=code)
    if isinstance(error, RequestValidationError):
        message, param = _first_problem(error)
        return 400, error_body(message, kind="invalid_request_error", param=param)
    if isinstance(error, UnknownModelError):
        return 404, error_body(str(error), kind="invalid_request_error", param="model", code="model_not_found")
    if isinstance(error, HTTPException):
        message = NO_SUCH_PATH if error.status_code == NOT_FOUND else str(error.detail)
        return error.status_code, error_body(message, kind="invalid_request_error")
    return 400, error_body(str(error), kind="invalid_request_error", param=_param(str(error)))


def _first_problem(error: RequestValidationError) -> tuple[str, str | None]:
    """Return the first problem of a request's body, and its field."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return "the body is not JSON", None
    if first["type"] in ("unknown_field", "too_many_entries"):
        return first["msg"], first["ctx"]["name"]
    name = next((part for part in map(str, first["loc"]) if part != "body" and not part.isdigit()), None)
    if first["type"] == "extra_forbidden":
        return f"{name}: unknown field", name
    return f"{name or 'body'}: {first['msg'].lower()}", name


def _param(message: str) -> str | None:
    """Return the field with which a UserError's message begins."""
    name = message.partition(":")[0]
    return {"max_new_chars": "max_tokens"}.get(name, name) if name.isidentifier() else None

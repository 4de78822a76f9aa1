"""The response to a completions request: one object, a stream of server-sent events, or an error in OpenAI's form."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from pipeline.core.errors import UserError
from pipeline.generation.text import Writer
from pipeline.generation.text_types import Character, Chunk
from pipeline.params.sampling import Sampling
from pipeline.serving.batching import FullError, PromptState, StoppedError, Update, Writing
from pipeline.serving.completions import CompletionRequest, UnknownModelError, error_body, logprobs_of, usage_of
from pipeline.serving.middleware import Metrics
from pipeline.serving.model_source import Served


class CompletionResponse:
    """The response to one request, which may take up to `seconds`; `metrics` count it.

    UserError if the model lacks the characters that `sampling` allows.
    """

    def __init__(
        self, request: CompletionRequest, served: Served, sampling: Sampling, *, seconds: float, metrics: Metrics
    ) -> None:
        served.writer.check(sampling)
        self.request = request
        self.writer: Writer = served.writer
        self.metrics = metrics
        self.started = time.perf_counter()
        self.seconds = seconds
        self.head = {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": served.card["name"],
            "system_fingerprint": f"charlm-{served.card['version'] or 'folder'}",
            "seed": sampling.seed,
        }
        encoded = [self.writer.encode_prompt(prompt) for prompt in request.prompts]
        self.prompts = [PromptState(one.ids) for one in encoded]
        self.warnings = list(dict.fromkeys(warning for one in encoded for warning in one.warnings))
        self.has_begun = False
        self.offsets = [0] * (len(request.prompts) * request.samples)
        self.written = 0
        self.echoes: dict[str, list[Character | None]] = {}

    def score_prompts(self) -> None:
        """Score the prompts, if the response repeats them with log-probabilities."""
        for prompt in self.request.prompts:
            if self.request.logprobs is not None and prompt not in self.echoes:
                self.echoes[prompt] = _scored(self.writer, prompt, self.request.logprobs)

    async def whole(self, writing: Writing) -> dict[str, Any]:
        """Return the response as one object."""
        async with asyncio.timeout(self.seconds):
            choices = {update.number: self._choice(update) async for update in writing.updates()}
        self._count_first()
        self._count_end()
        body = self.head | {"choices": [choices[index] for index in sorted(choices)], "usage": self._usage()}
        return body | ({"warnings": self.warnings} if self.warnings else {})

    async def events(self, writing: Writing) -> AsyncIterator[bytes]:
        """Yield server-sent events, the last one [DONE]; an error in mid-stream is sent as an event."""
        self.metrics.streams.inc()
        try:
            async with asyncio.timeout(self.seconds):
                async for update in writing.updates():
                    if update.chunk.text and not self.has_begun:
                        self.has_begun = True
                        self._count_first()
                    yield _event(self.head | {"choices": [self._choice(update)]})
                if self.request.stream_options is not None and self.request.stream_options.include_usage:
                    yield _event(self.head | {"choices": [], "usage": self._usage()})
                self._count_end()
                yield b"data: [DONE]\n\n"
        except (UserError, StoppedError, TimeoutError) as error:
            yield _event(describe_error(error)[1])
        finally:
            writing.close()
            self.metrics.streams.dec()

    def _choice(self, update: Update) -> dict[str, Any]:
        text = update.chunk.text
        prompt = self.request.prompts[update.number // self.request.samples]
        first = self.offsets[update.number] == 0
        echo = prompt if self.request.echo and first else ""
        logprobs = None
        if self.request.logprobs is not None:
            characters: list[Character | None] = [*self.writer.characters(update.chunk, self.request.logprobs)]
            known = self.echoes[prompt] if echo else []
            logprobs = logprobs_of([*known, *characters], echo + text, self.offsets[update.number])
        self.offsets[update.number] += len(echo + text)
        self.written += len(text)
        self.metrics.characters.inc(len(text))
        return {
            "index": update.number,
            "text": echo + text,
            "logprobs": logprobs,
            "finish_reason": update.finish_reason,
        }

    def _usage(self) -> dict[str, int]:
        return usage_of(sum(map(len, self.request.prompts)), self.written)

    def _count_first(self) -> None:
        self.metrics.first.observe(time.perf_counter() - self.started)

    def _count_end(self) -> None:
        self.metrics.seconds.observe(time.perf_counter() - self.started)


def _scored(writer: Writer, prompt: str, alternatives: int) -> list[Character | None]:
    """Return each character of `prompt` with its log-probability; None for those that the model does not know."""
    scored = writer.score(prompt, predictions=alternatives > 0)
    known = iter(writer.characters(Chunk(scored.text, scored.log_probs, scored.predictions), alternatives))
    return [next(known) if char in writer.known else None for char in prompt]


def _event(body: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


RETRY_AFTER_SECONDS = 1
NOT_FOUND = 404
NO_SUCH_PATH = "no such path; POST /v1/completions completes text (there is no chat), /docs lists all paths"
# Status, message and code of errors that are not the client's fault: it may try again.
BUSY: dict[type[Exception], tuple[int, str, str]] = {
    FullError: (429, "too many texts are waiting; try again soon", "queue_full"),
    StoppedError: (503, "the server was stopped", "stopped"),
    TimeoutError: (503, "the request took too long", "timeout"),
}


def add_error_handlers(app: FastAPI) -> None:
    """Make `app` respond to errors in requests."""

    async def answer(_: Request, error: Exception) -> JSONResponse:
        status, body = describe_error(error)
        headers = {"retry-after": str(RETRY_AFTER_SECONDS)} if type(error) in BUSY else None
        return JSONResponse(body, status, headers=headers)

    for kind in (RequestValidationError, UserError, HTTPException, *BUSY):
        app.add_exception_handler(kind, answer)


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
    name = next((part for part in map(str, first["loc"]) if part != "body" and not part.isdigit()), None)
    if first["type"] == "extra_forbidden":
        return f"{name}: unknown field", name
    return f"{name or 'body'}: {first['msg'].lower()}", name


def _param(message: str) -> str | None:
    """Return the field with which a UserError's message begins."""
    name = message.partition(":")[0]
    return {"max_new_chars": "max_tokens"}.get(name, name) if name.isidentifier() else None

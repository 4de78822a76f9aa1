"""The server: OpenAI's completions, streaming too, over continuous batching; health, figures, and the page."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.staticfiles import StaticFiles
from swagger_ui_bundle import swagger_ui_path

from pipeline.errors import UserError
from pipeline.generation.pieces import Character, Piece
from pipeline.generation.sampling import Sampling
from pipeline.generation.text import Writer
from pipeline.seeds import sample_seed
from pipeline.serving.batching import Batcher, Opening, StoppedError
from pipeline.serving.completions import CompletionRequest, logprobs_of, usage_of
from pipeline.serving.failures import add_failures, described
from pipeline.serving.guards import LOOPBACK, Guard
from pipeline.serving.limits import Limits
from pipeline.serving.observing import Counting, Figures
from pipeline.serving.source import Served
from pipeline.serving.writing import Part, Writing

PAGE = Path(__file__).with_name("page")
ANSWERS: dict[int | str, dict[str, Any]] = {
    400: {"description": "A field is wrong: `error.param` names it"},
    401: {"description": "A key is needed"},
    404: {"description": "No such model"},
    413: {"description": "The body is too large"},
    429: {"description": "Too many texts wait already; see Retry-After"},
    503: {"description": "The server is stopping, or took too long"},
}


class Server:
    """What the endpoints share: the model that is served now, the batcher, the figures."""

    def __init__(self, load: Callable[[], Served], limits: Limits) -> None:
        self.load = load
        self.limits = limits
        self.served = load()
        self.batcher = Batcher(in_flight=limits.in_flight, queue=limits.queue)
        self.figures = Figures()
        self.figures.active.set_function(lambda: self.batcher.active)
        self.figures.waiting.set_function(lambda: self.batcher.waiting)
        self.created = int(time.time())
        self.reloading = asyncio.Lock()


def make_application(
    load: Callable[[], Served],
    *,
    limits: Limits | None = None,
    key: str | None = None,
    hosts: Sequence[str] = LOOPBACK,
    cors: Sequence[str] = (),
) -> FastAPI:
    """Return the ASGI application that serves the model that `load` returns, now and at each reload."""
    limits = limits or Limits()
    server = Server(load, limits)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        server.batcher.close()

    app = FastAPI(title="charlm", description=__doc__, docs_url=None, redoc_url=None, lifespan=life)
    app.state.server = server
    _add_completions(app, server)
    _add_operations(app, server, has_key=key is not None)
    _add_pages(app)
    add_failures(app)
    if cors:
        app.add_middleware(CORSMiddleware, allow_origins=list(cors), allow_methods=["*"], allow_headers=["*"])
    app.add_middleware(Counting, requests=server.figures.requests)
    app.add_middleware(Guard, key=key, hosts=hosts, body_bytes=limits.body_bytes)
    return app


def _add_completions(app: FastAPI, server: Server) -> None:
    @app.post("/v1/completions", responses=ANSWERS, response_model=None)
    async def completions(asked: CompletionRequest, request: Request) -> Response:
        """Continue prompts: OpenAI's completions, one token a character."""
        started = time.perf_counter()
        served = server.served
        asked.check(server.limits, served.card["name"])
        sampling = asked.sampling()
        answer = Answer(asked, served, sampling, started, server)
        texts = [
            (opening, replace(sampling, seed=sample_seed(sampling.seed, number)))
            for opening in answer.openings
            for number in range(asked.samples)
        ]
        if asked.echo:
            await asyncio.to_thread(answer.read_prompts)
        writing = Writing(
            server.batcher, served.writer, texts, predictions=bool(asked.logprobs), whole=not asked.stream
        )
        if asked.stream:
            return StreamingResponse(answer.events(writing), media_type="text/event-stream")
        body = asyncio.create_task(answer.whole(writing))
        left = asyncio.create_task(_disconnected(request))
        try:
            await asyncio.wait({body, left}, return_when=asyncio.FIRST_COMPLETED)
            if not body.done():  # no one waits for it any more
                return Response(status_code=499)
            return JSONResponse(body.result())
        finally:
            writing.close()
            body.cancel()
            left.cancel()

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """Return the model that is served."""
        name = server.served.card["name"]
        return {
            "object": "list",
            "data": [{"id": name, "object": "model", "created": server.created, "owned_by": "charlm"}],
        }


class Answer:
    """The answer to one request, whole or as a stream of events."""

    def __init__(
        self, asked: CompletionRequest, served: Served, sampling: Sampling, started: float, server: Server
    ) -> None:
        self.asked = asked
        self.writer: Writer = served.writer
        self.server = server
        self.started = started
        self.seconds = server.limits.seconds
        self.head = {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": served.card["name"],
            "system_fingerprint": f"charlm-{served.card['version'] or 'folder'}",
            "seed": sampling.seed,
        }
        read = [self.writer.read_prompt(prompt) for prompt in asked.prompts]
        self.openings = [Opening(one.ids) for one in read]
        self.warnings = list(dict.fromkeys(warning for one in read for warning in one.warnings))
        self.begun = False
        self.offsets = [0] * (len(asked.prompts) * asked.samples)
        self.written = 0
        self.echoes: dict[str, list[Character | None]] = {}

    def read_prompts(self) -> None:
        """Score the prompts that the answer repeats, if it has log-probabilities."""
        for prompt in self.asked.prompts:
            if self.asked.logprobs is not None and prompt not in self.echoes:
                self.echoes[prompt] = _scored(self.writer, prompt, self.asked.logprobs)

    async def whole(self, writing: Writing) -> dict[str, Any]:
        """Return the answer as one object."""
        async with asyncio.timeout(self.seconds):
            choices = {part.number: self._choice(part) async for part in writing.parts()}
        self._count_first()
        self._count_end()
        body = self.head | {"choices": [choices[index] for index in sorted(choices)], "usage": self._usage()}
        return body | ({"warnings": self.warnings} if self.warnings else {})

    async def events(self, writing: Writing) -> AsyncIterator[bytes]:
        """Yield server-sent events, the last one [DONE]; an error in mid-stream is an event too."""
        figures = self.server.figures
        figures.streams.inc()
        try:
            async with asyncio.timeout(self.seconds):
                async for part in writing.parts():
                    if part.piece.text and not self.begun:
                        self.begun = True
                        self._count_first()
                    yield _event(self.head | {"choices": [self._choice(part)]})
                if self.asked.stream_options is not None and self.asked.stream_options.include_usage:
                    yield _event(self.head | {"choices": [], "usage": self._usage()})
                self._count_end()
                yield b"data: [DONE]\n\n"
        except (UserError, StoppedError, TimeoutError) as error:
            yield _event(described(error)[1])
        finally:
            writing.close()
            figures.streams.dec()

    def _choice(self, part: Part) -> dict[str, Any]:
        text = part.piece.text
        prompt = self.asked.prompts[part.number // self.asked.samples]
        first = self.offsets[part.number] == 0
        echo = prompt if self.asked.echo and first else ""
        logprobs = None
        if self.asked.logprobs is not None:
            characters: list[Character | None] = [*self.writer.characters(part.piece, self.asked.logprobs)]
            known = self.echoes[prompt] if echo else []
            logprobs = logprobs_of([*known, *characters], echo + text, self.offsets[part.number])
        self.offsets[part.number] += len(echo + text)
        self.written += len(text)
        self.server.figures.characters.inc(len(text))
        return {
            "index": part.number,
            "text": echo + text,
            "logprobs": logprobs,
            "finish_reason": part.finish_reason,
        }

    def _usage(self) -> dict[str, int]:
        return usage_of(sum(map(len, self.asked.prompts)), self.written)

    def _count_first(self) -> None:
        self.server.figures.first.observe(time.perf_counter() - self.started)

    def _count_end(self) -> None:
        self.server.figures.seconds.observe(time.perf_counter() - self.started)


def _scored(writer: Writer, prompt: str, alternatives: int) -> list[Character | None]:
    """Return each character of `prompt` with its log-probability; None for those that the model does not know."""
    scored = writer.score(prompt, predictions=alternatives > 0)
    known = iter(writer.characters(Piece(scored.text, scored.log_probs, scored.predictions), alternatives))
    return [next(known) if char in writer.known else None for char in prompt]


def _add_operations(app: FastAPI, server: Server, *, has_key: bool) -> None:
    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Say that the process lives."""
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> dict[str, str]:
        """Say that requests are taken."""
        return {"status": "ready", "model": server.served.card["name"]}

    @app.get("/metrics", response_model=None)
    async def metrics() -> Response:
        """Return the figures, for Prometheus."""
        return Response(generate_latest(server.figures.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/card")
    async def card() -> dict[str, Any]:
        """Return what is known of the model: perplexity, corpus, network, training curve."""
        return server.served.card

    @app.post("/admin/reload", responses={403: {"description": "The server was started without a key"}, **ANSWERS})
    async def reload() -> dict[str, Any]:
        """Load the model anew, for a champion that was promoted; texts in flight end with the one they began with."""
        if not has_key:
            raise HTTPException(403, "reload: allowed only with a key (CHARLM_API_KEY)")
        async with server.reloading:
            before = server.served.card["version"]
            server.served = await asyncio.to_thread(server.load)
        return {"before": before, "now": server.served.card["version"]}


def _add_pages(app: FastAPI) -> None:
    app.mount("/page", StaticFiles(directory=PAGE), name="page")
    app.mount("/swagger", StaticFiles(directory=swagger_ui_path), name="swagger")

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(PAGE / "index.html")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title="charlm",
            swagger_js_url="/swagger/swagger-ui-bundle.js",
            swagger_css_url="/swagger/swagger-ui.css",
            swagger_favicon_url="/swagger/favicon-32x32.png",
        )


async def _disconnected(request: Request) -> None:
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            return


def _event(body: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"

"""The HTTP server: OpenAI's completions API with streaming and continuous batching, health, metrics and the page."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from swagger_ui_bundle import swagger_ui_path

from pipeline.serving.batching import Batcher, lanes_and_threads
from pipeline.serving.completions import Budget, CompletionRequest, Limits, check_model
from pipeline.serving.middleware import LOOPBACK, SERVER, AccessLog, Guard, Metrics
from pipeline.serving.model_source import Served
from pipeline.serving.responses import ERRORS, CompletionResponse, add_error_handlers, error_response

COMPLETIONS = "/v1/completions"
JSON = (b"content-type", b"application/json")
PAGE = Path(__file__).with_name("page")
DESCRIBED: dict[int | str, dict[str, Any]] = {
    400: {"description": "A field is wrong: `error.param` names it"},
    401: {"description": "A key is needed"},
    404: {"description": "No such model"},
    413: {"description": "The body is too large"},
    429: {"description": "Too many texts are waiting; see Retry-After"},
    503: {"description": "The server is stopping, or took too long"},
}


class Server:
    """What the endpoints share: the model being served, the batcher and the metrics."""

    def __init__(self, load: Callable[[], Served], limits: Limits, workers: int) -> None:
        self.load = load
        self.limits = limits
        self.served = load()
        lanes, _ = lanes_and_threads(workers)
        self.batcher = Batcher(in_flight=limits.in_flight, queue=limits.queue, lanes=lanes)
        self.budget = Budget(limits.held_bytes)
        self.metrics = Metrics()
        self.metrics.active.set_function(lambda: self.batcher.active)
        self.metrics.waiting.set_function(lambda: self.batcher.waiting)
        self.created = int(time.time())
        self.reloading = asyncio.Lock()

    def complete(self, request: CompletionRequest) -> Response:
        """Return the response to `request`; UserError if it names what this server does not have or allow."""
        served = self.served
        request.check(self.limits, served.card["name"])
        return CompletionResponse(
            request,
            served,
            request.sampling(),
            self.batcher,
            self.budget,
            seconds=self.limits.seconds,
            metrics=self.metrics,
        )


class Shortcut:
    """Answers a valid request for completions without FastAPI, which takes as long as the text.

    What it does not accept goes to FastAPI's endpoint, which finds the same error and describes it.
    """

    path = COMPLETIONS  # makes it a route, by which requests are counted

    def __init__(self, app: ASGIApp, *, server: Server) -> None:
        self.app = app
        self.server = server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http" or (scope["path"], scope["method"]) != (COMPLETIONS, "POST") or not _is_json(scope):
            await self.app(scope, receive, send)
            return
        messages = [await receive()]
        while messages[-1].get("more_body", False):
            messages.append(await receive())
        scope["route"] = self
        if messages[-1]["type"] == "http.disconnect":
            return
        try:
            request = CompletionRequest.model_validate_json(b"".join(one.get("body", b"") for one in messages))
        except ValueError:
            await self.app(scope, _first(messages, receive), send)
            return
        try:
            response = self.server.complete(request)
            await response(scope, receive, send)
        except ERRORS as error:
            await error_response(error)(scope, receive, send)


def _is_json(scope: Scope) -> bool:
    return next((one for one in scope["headers"] if one[0] == JSON[0]), None) == JSON


def _first(messages: Sequence[Message], receive: Receive) -> Receive:
    """Return what receives `messages` again, then what follows."""
    left = iter(messages)

    async def again() -> Message:
        message = next(left, None)
        return await receive() if message is None else message

    return again


def make_application(
    load: Callable[[], Served],
    *,
    limits: Limits | None = None,
    key: str | None = None,
    hosts: Sequence[str] = LOOPBACK,
    cors: Sequence[str] = (),
    workers: int = 1,
) -> FastAPI:
    """Return the ASGI application that serves the model that `load` returns, now and at each reload.

    `workers` processes share the machine, and each has such an application.
    """
    limits = limits or Limits()
    server = Server(load, limits, workers)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        server.batcher.close()

    app = FastAPI(
        title="charlm",
        description=__doc__,
        docs_url=None,
        redoc_url=None,
        lifespan=life,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # looks at each request whether it is on
    )
    app.state.server = server
    _add_completions(app, server)
    refusal = "allowed only with a key (CHARLM_API_KEY)" if key is None else ""
    _add_operations(app, server, no_reload=refusal or ("not with --workers: restart the server" if workers > 1 else ""))
    _add_pages(app)
    add_error_handlers(app)
    app.add_middleware(Shortcut, server=server)
    app.add_middleware(Guard, key=key, hosts=hosts, body_bytes=limits.body_bytes)
    if cors:  # around the guard: a browser sends no key when it asks whether it may, and has to see refusals too
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(cors),
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["retry-after"],
        )
    app.add_middleware(AccessLog, requests=server.metrics.requests)  # added last, so outermost: it also logs refusals
    return app


def _add_completions(app: FastAPI, server: Server) -> None:
    @app.post(COMPLETIONS, responses=DESCRIBED, response_model=None)
    async def completions(body: CompletionRequest) -> Response:
        """Continue prompts: OpenAI's completions; a token is a character."""
        return server.complete(body)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """Return a list of the one model that is served."""
        return {"object": "list", "data": [_model(server)]}

    @app.get("/v1/models/{name}", responses={404: DESCRIBED[404]})
    async def model(name: str) -> dict[str, Any]:
        """Return the model that is served, if this is its name or `charlm`."""
        served = _model(server)
        check_model(name, served["id"])
        return served


def _model(server: Server) -> dict[str, Any]:
    name = server.served.card["name"]
    return {"id": name, "object": "model", "created": server.created, "owned_by": "charlm"}


def _add_operations(app: FastAPI, server: Server, *, no_reload: str) -> None:
    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Report that the process is alive."""
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> dict[str, str]:
        """Report that the server accepts requests."""
        return {"status": "ready", "model": server.served.card["name"]}

    @app.get("/metrics", response_model=None)
    async def metrics() -> Response:
        """Return the metrics, in the format of Prometheus."""
        return Response(generate_latest(server.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/card")
    async def card() -> dict[str, Any]:
        """Return the model's card: perplexity, corpus, network, training curve."""
        return server.served.card

    @app.post("/admin/reload", responses={403: {"description": "Started without a key, or with workers"}, **DESCRIBED})
    async def reload() -> dict[str, Any]:
        """Load the model again, for example a new champion. Texts in flight finish with the previous one."""
        if no_reload:
            raise HTTPException(403, f"reload: {no_reload}")
        async with server.reloading:
            before = server.served.card["version"]
            server.served = await asyncio.to_thread(server.load)
            now = server.served.card["version"]
        SERVER.info("model reloaded: version %s, before %s", now or "folder", before or "folder")
        return {"before": before, "now": now}


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

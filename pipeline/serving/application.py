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
from swagger_ui_bundle import swagger_ui_path

from pipeline.core.reproducible import available_cores
from pipeline.serving.batching import Batcher, Budget
from pipeline.serving.completions import CompletionRequest, Limits, check_model
from pipeline.serving.middleware import LOOPBACK, SERVER, AccessLog, Guard, Metrics
from pipeline.serving.model_source import Served
from pipeline.serving.responses import CompletionResponse, add_error_handlers

PAGE = Path(__file__).with_name("page")
ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"description": "A field is wrong: `error.param` names it"},
    401: {"description": "A key is needed"},
    404: {"description": "No such model"},
    413: {"description": "The body is too large"},
    429: {"description": "Too many texts are waiting; see Retry-After"},
    503: {"description": "The server is stopping, or took too long"},
}


class Server:
    """What the endpoints share: the model being served, the batcher and the metrics."""

    def __init__(self, load: Callable[[], Served], limits: Limits) -> None:
        self.load = load
        self.limits = limits
        self.served = load()
        self.batcher = Batcher(in_flight=limits.in_flight, queue=limits.queue, lanes=available_cores())
        self.budget = Budget(limits.held_bytes)
        self.metrics = Metrics()
        self.metrics.active.set_function(lambda: self.batcher.active)
        self.metrics.waiting.set_function(lambda: self.batcher.waiting)
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
    add_error_handlers(app)
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
    @app.post("/v1/completions", responses=ERRORS, response_model=None)
    async def completions(body: CompletionRequest) -> Response:
        """Continue prompts: OpenAI's completions; a token is a character."""
        served = server.served
        body.check(server.limits, served.card["name"])
        return CompletionResponse(
            body,
            served,
            body.sampling(),
            server.batcher,
            server.budget,
            seconds=server.limits.seconds,
            metrics=server.metrics,
        )

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """Return a list of the one model that is served."""
        return {"object": "list", "data": [_model(server)]}

    @app.get("/v1/models/{name}", responses={404: ERRORS[404]})
    async def model(name: str) -> dict[str, Any]:
        """Return the model that is served, if this is its name or `charlm`."""
        served = _model(server)
        check_model(name, served["id"])
        return served


def _model(server: Server) -> dict[str, Any]:
    name = server.served.card["name"]
    return {"id": name, "object": "model", "created": server.created, "owned_by": "charlm"}


def _add_operations(app: FastAPI, server: Server, *, has_key: bool) -> None:
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

    @app.post("/admin/reload", responses={403: {"description": "The server was started without a key"}, **ERRORS})
    async def reload() -> dict[str, Any]:
        """Load the model again, for example a new champion. Texts in flight finish with the previous one."""
        if not has_key:
            raise HTTPException(403, "reload: allowed only with a key (CHARLM_API_KEY)")
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

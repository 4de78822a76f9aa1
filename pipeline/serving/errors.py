"""Maps every error to a status and OpenAI's error object: all messages that clients get are here."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from pipeline.core.errors import UserError
from pipeline.serving.batching import FullError, StoppedError
from pipeline.serving.completions import UnknownModelError, error_body

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

"""Asking at the door whether a remote tracking server answers: at once, and without loading MLflow."""

import os

from pipeline.errors import UserError

TIMEOUT_SECONDS = 5.0


def check_server() -> None:
    """Return if tracking is local or the server at MLFLOW_TRACKING_URI answers; else UserError."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri.startswith(("http://", "https://")):
        return
    import httpx  # not for the default, a local store

    try:
        httpx.get(f"{uri.rstrip('/')}/health", timeout=TIMEOUT_SECONDS)
    except httpx.HTTPError as error:
        raise UserError(
            f"MLFLOW_TRACKING_URI: {uri} does not answer ({error}); start the server, or unset it to log to ./mlflow.db"
        ) from None

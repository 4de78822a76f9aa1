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
        httpx.get(f"{uri.rstrip('/')}/health", timeout=TIMEOUT_SECONDS).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        said = str(error).partition("\n")[0].replace(uri, "")
        raise UserError(
            f"MLFLOW_TRACKING_URI: {_shown(uri)} does not answer ({said}); "
            "start the server, or unset it to log to ./mlflow.db"
        ) from None


def _shown(uri: str) -> str:
    """Return the address without the password that may stand in it."""
    scheme, _, rest = uri.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"

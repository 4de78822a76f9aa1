"""How MLflow is to behave: set before it is loaded, by stages and commands alike."""

import os

from pipeline.core.errors import UserError
from pipeline.tracking.project import project_root

# Nothing calls home, a server that is away is given up soon, no bars for small files.
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}


def set_up_mlflow() -> None:
    """Set MLflow's variables in the environment, those that are not set yet."""
    for variable, value in SETTINGS.items():
        os.environ.setdefault(variable, value)


TIMEOUT_SECONDS = 5.0


def tracking_uri() -> str:
    """Return MLFLOW_TRACKING_URI, by default the SQLite file mlflow.db in the project's root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{project_root()}/mlflow.db"


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

"""How MLflow is to behave: set before it is loaded, by stages and commands alike."""

import os

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

"""Registering a logged model: its version, its tags, its alias."""

from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient

from pipeline.files import read_json, sha256_of
from pipeline.model.saved import SavedModel
from pipeline.params.register import RegisterParams
from pipeline.serving.card import project_card
from pipeline.serving.packaging import log_model
from pipeline.tracking.project import experiment_name, git_state
from pipeline.tracking.registry import EVAL_TAG, PERPLEXITY_TAG, Standing, promote
from pipeline.tracking.store import open_store


def register_model(
    folder: Path, *, run_id: str, params: RegisterParams, figures: dict[str, Any], example_prompt: str
) -> str:
    """Log the model in `folder` to the run and, if `register.enabled`, register it; returns what happened, in a line.

    `figures` are those of metrics/evaluate.json.
    """
    with open_store() as (client, _):
        with mlflow.start_run(run_id=run_id):
            card = project_card(SavedModel.load(folder), Path.cwd())
            info = log_model(folder, card=card, example_prompt=example_prompt)
        if not params.enabled:
            return "logged, not registered (register.enabled is false)"
        _ensure_registered_model(client, params.model_name)
        version = client.create_model_version(
            params.model_name,
            source=info.model_uri,
            run_id=run_id,
            tags=_tags(folder, figures),
            model_id=info.model_id,
        )
        candidate = Standing(str(version.version), figures["perplexity"], figures["eval_sha256"])
        decision = promote(client, params.model_name, candidate, max_perplexity=params.max_perplexity)
    return f"{params.model_name} version {version.version} is {decision.alias}: {decision.reason}"


def _tags(folder: Path, figures: dict[str, Any]) -> dict[str, str]:
    git = git_state()
    data = read_json(Path("metrics/split.json"))
    return {
        PERPLEXITY_TAG: repr(figures["perplexity"]),
        EVAL_TAG: figures["eval_sha256"],
        "train_sha256": data["train_sha256"],
        "weights_sha256": sha256_of(folder / "weights.safetensors"),
        "git.commit": git.commit,
        "git.clean": str(git.clean).lower(),
        "dvc.experiment": experiment_name() or "",
    }


def _ensure_registered_model(client: MlflowClient, name: str) -> None:
    if not any(model.name == name for model in client.search_registered_models(f"name = '{name}'")):
        client.create_registered_model(name, description="A character-level language model made by charlm.")

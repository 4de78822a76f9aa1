"""Registering a logged model: its version, its tags, its alias."""

from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient

from pipeline.files import read_json, sha256_of
from pipeline.model.saved import SavedModel
from pipeline.params.generate import GenerateParams
from pipeline.params.reader import PARAMS_FILE, read_group
from pipeline.params.register import RegisterParams, registered_name
from pipeline.serving.card import project_card
from pipeline.serving.packaging import log_model
from pipeline.tracking.execution import Execution
from pipeline.tracking.registry import BASELINE_TAG, EVAL_TAG, PERPLEXITY_TAG, WEIGHTS_TAG, Standing, enter
from pipeline.tracking.store import open_store


def register_model(execution: Execution, *, run_id: str) -> str:
    """Log the execution's model to the run, and register it if `register.enabled`; returns what happened, in a line."""
    project = execution.folder
    model = project / "models/charlm"
    params = read_group("register", RegisterParams, project / PARAMS_FILE)
    name = registered_name(project / PARAMS_FILE)
    prompt = read_group("generate", GenerateParams, project / PARAMS_FILE).prompts[0]
    figures = read_json(project / "metrics/evaluate.json")
    with open_store() as (client, _):
        with mlflow.start_run(run_id=run_id):
            card = project_card(SavedModel.load(model), project)
            info = log_model(model, card=card, example_prompt=prompt)
        if not params.enabled:
            return "logged, not registered (register.enabled is false)"
        _ensure_registered_model(client, name)
        version = client.create_model_version(
            name,
            source=info.model_uri,
            run_id=run_id,
            tags=_tags(execution, figures),
            model_id=info.model_id,
        )
        candidate = Standing(str(version.version), figures["perplexity"], figures["eval_sha256"])
        decision = enter(client, name, candidate, max_perplexity=params.max_perplexity)
    return f"{name} version {version.version} is {decision.alias}: {decision.reason}"


def _tags(execution: Execution, figures: dict[str, Any]) -> dict[str, str]:
    project = execution.folder
    data = read_json(project / "metrics/split.json")
    return {
        PERPLEXITY_TAG: repr(figures["perplexity"]),
        **({BASELINE_TAG: repr(figures[BASELINE_TAG])} if BASELINE_TAG in figures else {}),
        EVAL_TAG: figures["eval_sha256"],
        "train_sha256": data["train_sha256"],
        "data.source": Path(execution.params()["data.source"]).name,
        WEIGHTS_TAG: sha256_of(project / "models/charlm/weights.safetensors"),
        "git.commit": execution.tags["git.commit"],
        "git.clean": execution.tags["git.clean"],
        "dvc.experiment": execution.tags.get("dvc.experiment", ""),
    }


def _ensure_registered_model(client: MlflowClient, name: str) -> None:
    if not any(model.name == name for model in client.search_registered_models(f"name = '{name}'")):
        client.create_registered_model(name, description="A character-level language model made by charlm.")

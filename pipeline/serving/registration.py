"""Logs the model to MLflow and registers it: version, tags, alias."""

import json
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.models.model import ModelInfo
from mlflow.models.signature import ModelSignature
from mlflow.types.schema import DataType, ParamSchema, ParamSpec
from typing_extensions import TypedDict

from pipeline.core.files import read_checked, sha256_of, write_json
from pipeline.evaluation.measurement import MEASUREMENT, MEASUREMENT_ID, measurement_id, record_in
from pipeline.model.saved import SavedModel
from pipeline.params.generation import GenerateParams, RegisterParams, registered_name
from pipeline.params.reader import PARAMS_FILE, read_group
from pipeline.params.text import source_name
from pipeline.serving import pyfunc_model
from pipeline.serving.model_source import CARD, project_card
from pipeline.serving.pyfunc_model import PARAMS
from pipeline.tracking.execution import Execution
from pipeline.tracking.records import EvaluateFigures
from pipeline.tracking.registry import (
    BASELINE_TAG,
    EVAL_TAG,
    START_TAGS,
    Gate,
    Standing,
    pass_gate,
)
from pipeline.tracking.store import PERPLEXITY_TAG, WEIGHTS_TAG, open_store

ROOT = Path(__file__).parents[2]

# All modules that the served model imports, directly or not: a test compares this with the import graph.
MODULES = (
    "pipeline/__init__.py",
    "pipeline/core/__init__.py",
    "pipeline/core/errors.py",
    "pipeline/core/files.py",
    "pipeline/core/kernel_cache.py",
    "pipeline/core/reproducible.py",
    "pipeline/dataset/__init__.py",
    "pipeline/dataset/dictionary.py",
    "pipeline/generation/__init__.py",
    "pipeline/generation/arithmetic.py",
    "pipeline/generation/drawing.py",
    "pipeline/generation/engine.py",
    "pipeline/generation/kernels.py",
    "pipeline/generation/text.py",
    "pipeline/generation/text_types.py",
    "pipeline/model/__init__.py",
    "pipeline/model/saved.py",
    "pipeline/model/ngram_kernels.py",
    "pipeline/model/mixture.py",
    "pipeline/model/ngram.py",
    "pipeline/params/__init__.py",
    "pipeline/params/sampling.py",
    "pipeline/params/training.py",
    "pipeline/serving/__init__.py",
)
PACKAGES = ("llvmlite", "mlflow", "numba", "numpy", "pandas", "platformdirs", "pydantic", "safetensors")


class RegisteredFigures(EvaluateFigures):
    """What the registry needs of metrics/evaluate.json."""

    eval_sha256: str


class _TrainText(TypedDict):
    train_sha256: str


def requirements() -> list[str]:
    """Return the served model's requirements, pinned, without local labels ("+cpu") that exist only here."""
    return [f"{name}=={version(name).partition('+')[0]}" for name in PACKAGES]


def signature() -> ModelSignature:
    """Return the schema of the params.

    Prompts have none: with a schema MLflow refuses either a list of strings in a notebook or `{"prompt": […]}` over
    HTTP. `read_prompts` checks them.
    """
    return ModelSignature(
        params=ParamSchema(
            [
                ParamSpec(name, getattr(DataType, kind), default, shape=(-1,) if isinstance(default, list) else None)
                for name, kind, default in PARAMS
            ]
        ),
    )


def log_model(folder: Path, *, card: dict[str, Any], example_prompt: str) -> ModelInfo:
    """Log the model in `folder`, with its card, to the active MLflow run."""
    with tempfile.TemporaryDirectory(prefix="charlm-") as temporary:
        for name in MODULES:
            target = Path(temporary) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target)
        write_json(Path(temporary) / CARD, card)
        return mlflow.pyfunc.log_model(
            name="model",
            python_model=str(pyfunc_model.__file__),
            artifacts={"model": str(folder), "card": str(Path(temporary) / CARD)},
            code_paths=[str(Path(temporary) / "pipeline")],
            pip_requirements=requirements(),
            signature=signature(),
            input_example=(
                pd.DataFrame({"prompt": [example_prompt]}),
                {"max_new_chars": 100, "temperature": 0.8, "seed": 7},
            ),
        )


def register_model(execution: Execution, *, run_id: str) -> str:
    """Log the execution's model to the run, and register it if `register.enabled`; returns what happened, in a line."""
    project = execution.folder
    model = project / "models/charlm"
    params = read_group("register", RegisterParams, project / PARAMS_FILE)
    name = registered_name(project / PARAMS_FILE)
    prompt = read_group("generate", GenerateParams, project / PARAMS_FILE).prompts[0]
    figures: dict[str, Any] = {**read_checked(project / "metrics/evaluate.json", RegisteredFigures)}
    with open_store() as (client, _):
        with mlflow.start_run(run_id=run_id):
            card = project_card(SavedModel.load(model), project)
            info = log_model(model, card=card, example_prompt=prompt)
        if not params.enabled:
            return "logged, not registered (register.enabled is false)"
        ensure_registered_model(client, name)
        version = client.create_model_version(
            name,
            source=info.model_uri,
            run_id=run_id,
            tags=_tags(execution, figures),
            model_id=info.model_id,
        )
        baseline = figures.get(BASELINE_TAG)
        candidate = Standing(str(version.version), figures["perplexity"], record_in(figures), baseline)
        decision = pass_gate(client, name, candidate, Gate(params.max_perplexity, params.beat_baseline))
    line = f"{name} version {version.version} is {decision.alias}: {decision.reason}"
    return line if decision.comparable else f"{line}; `charlm promote {version.version} --force` makes it the champion"


def _tags(execution: Execution, figures: dict[str, Any]) -> dict[str, str]:
    project = execution.folder
    data = read_checked(project / "metrics/split.json", _TrainText)
    train = read_checked(project / "metrics/train.json", dict[str, Any])
    return {
        PERPLEXITY_TAG: repr(figures["perplexity"]),
        **({BASELINE_TAG: repr(figures[BASELINE_TAG])} if BASELINE_TAG in figures else {}),
        EVAL_TAG: figures["eval_sha256"],
        **_measurement_tags(figures),
        "train_sha256": data["train_sha256"],
        **{key: train[key] for key in START_TAGS if key in train},
        "data.source": source_name(execution.params()["data.source"]),
        WEIGHTS_TAG: sha256_of(project / "models/charlm/weights.safetensors"),
        "git.commit": execution.tags["git.commit"],
        "git.clean": execution.tags["git.clean"],
        "dvc.experiment": execution.tags.get("dvc.experiment", ""),
    }


def _measurement_tags(figures: dict[str, Any]) -> dict[str, str]:
    """Return the tags that say how a version was measured; none for figures that an earlier release saved."""
    record = record_in(figures)
    return {MEASUREMENT: json.dumps(record), MEASUREMENT_ID: measurement_id(record)} if record else {}


def ensure_registered_model(client: MlflowClient, name: str) -> None:
    """Create the registered model `name` if it does not exist."""
    if not any(model.name == name for model in client.search_registered_models(f"name = '{name}'")):
        client.create_registered_model(name, description="A character-level language model made by charlm.")

"""Logging a trained model to MLflow: as code, with its folder, the modules it needs and pinned requirements."""

import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.models.model import ModelInfo
from mlflow.models.signature import ModelSignature
from mlflow.types.schema import DataType, ParamSchema, ParamSpec

from pipeline.files import write_json
from pipeline.serving import pyfunc_model
from pipeline.serving.answers import PARAMS
from pipeline.serving.card import CARD

ROOT = Path(__file__).parents[2]

# What the served model imports, directly or not: a test compares this with the real imports.
MODULES = (
    "pipeline/__init__.py",
    "pipeline/compiling.py",
    "pipeline/errors.py",
    "pipeline/files.py",
    "pipeline/threads.py",
    "pipeline/params/__init__.py",
    "pipeline/params/base.py",
    "pipeline/params/generate.py",
    "pipeline/params/model.py",
    "pipeline/dataset/__init__.py",
    "pipeline/dataset/dictionary.py",
    "pipeline/model/__init__.py",
    "pipeline/model/config.py",
    "pipeline/model/saved.py",
    "pipeline/generation/__init__.py",
    "pipeline/generation/engine.py",
    "pipeline/generation/kernels/__init__.py",
    "pipeline/generation/kernels/arithmetic.py",
    "pipeline/generation/kernels/cells.py",
    "pipeline/generation/kernels/drawing.py",
    "pipeline/generation/kernels/loops.py",
    "pipeline/generation/kernels/packing.py",
    "pipeline/generation/kernels/tiles.py",
    "pipeline/generation/pieces.py",
    "pipeline/generation/sampling.py",
    "pipeline/generation/stops.py",
    "pipeline/generation/text.py",
    "pipeline/serving/__init__.py",
    "pipeline/serving/answers.py",
)
PACKAGES = ("llvmlite", "mlflow", "numba", "numpy", "pandas", "platformdirs", "pydantic", "safetensors")


def requirements() -> list[str]:
    """Return what the served model needs, pinned; without local version labels ("+cpu"), which other places lack."""
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
    """Log the model in `folder` to the active MLflow run, its card beside it."""
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

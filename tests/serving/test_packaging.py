import json
import subprocess
import sys

import mlflow
import pytest
from support.imports import ROOT, graph, imported_by, path_of
from support.models import random_model

from pipeline.serving.registration import MODULES, PACKAGES, log_model, requirements


def test_the_packaged_modules_are_what_the_served_model_imports():
    needed = {path_of(name) for name in imported_by("pipeline.serving.pyfunc_model")}
    assert needed - {"pipeline/serving/pyfunc_model.py"} == set(MODULES)


def test_the_requirements_are_what_the_served_model_imports():
    ours = imported_by("pipeline.serving.pyfunc_model")
    others = {name.partition(".")[0] for module in ours for name in graph().find_modules_directly_imported_by(module)}
    assert others - {"pipeline"} - set(sys.stdlib_module_names) == set(PACKAGES)
    assert all("==" in line and "+" not in line for line in requirements())


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logged")
    random_model().save(folder / "model")
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    experiment = mlflow.create_experiment("x", artifact_location=(folder / "artifacts").as_uri())
    with mlflow.start_run(experiment_id=experiment):
        return folder, log_model(folder / "model", card={"name": "charlm"}, example_prompt="abc")


def test_no_pickle_is_logged(logged):
    folder, _ = logged
    names = [path.name for path in (folder / "artifacts").rglob("*") if path.is_file()]
    assert "weights.safetensors" in names
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".pt", ".bin"))]


def test_it_answers_from_another_folder_without_the_project(logged, tmp_path):
    """In a process that finds `pipeline` only in the logged model."""
    folder, info = logged
    code = f"""
import json, sys, mlflow
sys.path = [path for path in sys.path if path not in ("", "{ROOT}")]
mlflow.set_tracking_uri("sqlite:///{folder}/mlflow.db")
model = mlflow.pyfunc.load_model("{info.model_uri}")
import pipeline
answers = model.predict({{"prompt": ["abc"]}}, params={{"max_new_chars": 7, "seed": 1}})
import pandas
forms = ["abc", ["abc"], {{"prompt": "abc"}}, pandas.DataFrame({{"prompt": ["abc"]}}), pandas.Series(["abc"])]
same = [model.predict(form, params={{"max_new_chars": 7, "seed": 1}}) == answers for form in forms]
streamed = "".join(model.predict_stream("abc", params={{"max_new_chars": 7, "seed": 1}}))
print(json.dumps([pipeline.__file__, "torch" in sys.modules, answers, same, streamed]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    where, with_torch, (answer,), same, streamed = json.loads(done.stdout.splitlines()[-1])
    assert same == [True] * 5
    assert streamed == answer["completion"]
    assert str(folder) in where
    assert not with_torch
    assert len(answer["completion"]) == 7

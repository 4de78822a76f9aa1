"""Reading the champion's artifacts; without a registry MLflow is not imported."""

import os
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from pipeline.core.errors import UserError
from pipeline.tracking import registry
from pipeline.tracking.execution import Session
from pipeline.tracking.stage import ChampionArtifact, StageRun, champion_artifact, may_have_champion
from pipeline.tracking.store import set_up_mlflow

ROOT = Path(__file__).parents[2]
ALPHABET = "validate/alphabet.csv"
TABLE = "codepoint,character,train,eval,test\nU+00E9,é,9,1,0\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    set_up_mlflow()
    for variable in ("DVC_ROOT", "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "params.yaml").write_text("register: {model_name: own}\n", encoding="utf-8")
    return tmp_path


@pytest.fixture
def versions(project):
    """Two versions of the model `own`: the run of the first has an alphabet, that of the second has none."""
    uri = f"sqlite:///{project}/mlflow.db"
    mlflow.set_registry_uri(uri)
    client = MlflowClient(uri, uri)
    experiment = client.create_experiment("charlm", (project / "mlruns").as_uri())
    client.create_registered_model("own")
    for table in (TABLE, None):
        run = client.create_run(experiment)
        client.log_text(run.info.run_id, "{}", "validate/validation.json")
        if table:
            client.log_text(run.info.run_id, table, ALPHABET)
        client.create_model_version("own", source=str(project), run_id=run.info.run_id)
    return client


def test_without_a_registry_there_is_no_champion_and_mlflow_is_not_imported(project):
    code = (
        "import sys; from pipeline.tracking.stage import champion_artifact; "
        f"print(champion_artifact({ALPHABET!r}), 'mlflow' in sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("None False\n", "")
    assert not any(path.name != "params.yaml" for path in project.iterdir())


@pytest.mark.parametrize("variable", ["MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"])
def test_a_registry_address_may_have_a_champion(project, monkeypatch, variable):
    assert not may_have_champion()
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    assert may_have_champion()


def test_a_registry_in_the_root_of_dvc_may_have_a_champion(project, monkeypatch):
    (project / "root").mkdir()
    (project / "root/mlflow.db").touch()
    assert not may_have_champion()
    monkeypatch.setenv("DVC_ROOT", str(project / "root"))
    assert may_have_champion()


def test_an_artifact_of_the_champions_run_is_found(versions):
    assert champion_artifact(ALPHABET) is None  # versions, but no champion
    versions.set_registered_model_alias("own", "champion", "1")
    assert champion_artifact(ALPHABET) == ChampionArtifact("1", TABLE)
    assert champion_artifact("validate/other.csv") is None
    assert champion_artifact("alphabet.csv") is None
    versions.set_registered_model_alias("own", "champion", "2")
    assert champion_artifact(ALPHABET) is None


def test_the_champion_belongs_to_the_model_in_params(project, versions):
    versions.set_registered_model_alias("own", "champion", "1")
    (project / "params.yaml").write_text("register: {model_name: another}\n", encoding="utf-8")
    assert champion_artifact(ALPHABET) is None


def test_lost_files_or_a_failing_store_give_a_stage_a_one_line_warning(project, versions, monkeypatch, capsys):
    stage = StageRun("validate", Session(key="test", path=project / "session.json"))
    versions.set_registered_model_alias("own", "champion", "1")
    assert stage.champion_artifact(Path("reports/alphabet.csv")) == ChampionArtifact("1", TABLE)
    (one,) = (project / "mlruns").rglob("alphabet.csv")
    one.write_bytes(b"\xff\xfe")
    with pytest.raises(UnicodeDecodeError):
        champion_artifact(ALPHABET)
    assert stage.champion_artifact(Path("reports/alphabet.csv")) is None
    assert capsys.readouterr().err.startswith("warning: validate: not compared with the champion ('utf-8' codec can")

    def in_trouble(*_):
        raise mlflow.MlflowException("the database\nis locked")

    monkeypatch.setattr(registry, "champion_version", in_trouble)
    assert stage.champion_artifact(Path("reports/alphabet.csv")) is None
    assert capsys.readouterr().err == ("warning: validate: not compared with the champion (the database is locked)\n")


def test_an_unreachable_store_gives_a_stage_a_one_line_warning(project, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="does not answer"):
        champion_artifact(ALPHABET)
    stage = StageRun("validate", Session(key="test", path=project / "session.json"))
    assert stage.champion_artifact(Path("reports/alphabet.csv")) is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: validate: not compared with the champion (MLFLOW_TRACKING_URI: http://127.0.0.1:9")


def test_a_damaged_store_gives_a_stage_a_one_line_warning(project, capsys):
    (project / "mlflow.db").write_bytes(b"no database" * 100)
    stage = StageRun("validate", Session(key="test", path=project / "session.json"))
    assert stage.champion_artifact(Path("reports/alphabet.csv")) is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: validate: not compared with the champion (")

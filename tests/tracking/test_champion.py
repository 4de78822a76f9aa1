<<<<<<< HEAD
"""A new text's characters against the champion's, whose run is in a real MLflow store in a temporary project."""
=======
"""What is read of the champion: without a registry MLflow is not even imported."""
>>>>>>> vtests

import os
import subprocess
import sys
from pathlib import Path

<<<<<<< HEAD
import pytest
from conftest import TEXT, tables
from mlflow import MlflowClient

from pipeline.dataset.building import build_splits
from pipeline.params.split import SplitParams
from pipeline.tracking.champion import of_champion, there_may_be_one
from pipeline.tracking.session import Session
from pipeline.tracking.stage import stage
from pipeline.tracking.store import open_store
from stages.validate import warn_of_drift

ALPHABET = "codepoint,character,train,eval,test\n"
=======
import mlflow
import pytest
from mlflow import MlflowClient

from pipeline.errors import UserError
from pipeline.tracking import registry
from pipeline.tracking.champion import OfChampion, of_champion, there_may_be_one
from pipeline.tracking.session import Session
from pipeline.tracking.settings import set_up_mlflow
from pipeline.tracking.stage import StageRun

ROOT = Path(__file__).parents[2]
ALPHABET = "validate/alphabet.csv"
TABLE = "codepoint,character,train,eval,test\nU+00E9,é,9,1,0\n"
>>>>>>> vtests


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
<<<<<<< HEAD
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(variable, raising=False)
    params = "enabled: true, model_name: m, max_perplexity: 9.0"
    Path("params.yaml").write_text(f"data: {{source: sotu}}\nregister: {{{params}}}\n")
    Path("reports").mkdir()
    return tmp_path


def crown(alphabet):
    """A champion whose run has this alphabet."""
    with open_store() as (client, experiment):
        run = client.create_run(experiment)
        if alphabet is not None:
            client.log_text(run.info.run_id, alphabet, "validate/alphabet.csv")
        client.create_registered_model("m")
        client.create_model_version("m", source=f"runs:/{run.info.run_id}/model", run_id=run.info.run_id)
        client.set_registered_model_alias("m", "champion", "1")


def warn(alphabet, capsys):
    Path("reports/alphabet.csv").write_text(alphabet, encoding="utf-8")
    capsys.readouterr()
    with stage("validate") as run:
        warn_of_drift(run, 0.01)
    return capsys.readouterr().err


def test_without_a_registry_mlflow_is_not_loaded(project):
    code = (
        "import sys; from pathlib import Path; from pipeline.tracking.stage import stage\n"
        "with stage('validate') as run: assert run.of_champion(Path('reports/alphabet.csv')) is None\n"
        "assert 'mlflow' not in sys.modules\n"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": str(root)})
    assert not there_may_be_one()
    assert not Path("mlflow.db").exists()


def test_no_champion_and_one_without_the_file_are_nothing_to_compare_with(project):
    with open_store():
        pass
    assert of_champion("validate/alphabet.csv") is None
    crown(None)
    assert of_champion("validate/alphabet.csv") is None


def test_drift_from_the_champion_is_one_line_and_a_tag(project, capsys):
    crown(f"{ALPHABET}U+0061,a,90,0,0\nU+0062,b,10,0,0\n")
    assert not warn(f"{ALPHABET}U+0061,a,89,0,0\nU+0062,b,11,0,0\n", capsys)
    assert Session.current().tags == {
        "validate.drift": "Jensen-Shannon divergence 0.000192 bits, from champion version 1's"
    }
    assert warn(f"{ALPHABET}U+0061,a,80,0,0\nU+0062,b,10,6,0\nU+00E9,é,0,4,0\n", capsys) == (
        "warning: the text drifted from champion version 1's: 1 new character ('é'; 4 % of the text), "
        "Jensen-Shannon divergence 0.0272 bits (validate.max_drift 0.01)\n"
    )


def test_a_champions_damaged_file_or_a_server_that_is_away_costs_a_line(project, capsys, monkeypatch):
    crown("something else\n1\n")
    own = f"{ALPHABET}U+0061,a,89,0,0\n"
    assert warn(own, capsys) == ("warning: the champion's alphabet.csv could not be read: not a table of characters\n")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    line = warn(own, capsys)
    assert line.startswith("warning: validate: not compared with the champion (MLFLOW_TRACKING_URI: http://127.0.0.1:9")
    assert len(line.splitlines()) == 1
    assert not Session.current().tags


def test_a_stages_tags_go_to_the_run_with_its_record(project):
    from pipeline.tracking.execution import execution_here
    from pipeline.tracking.publish import publish

    session = Session.current()
    session.tags["validate.drift"] = "0.1 bits"
    run_id = publish(execution_here(), session, ["source", "validate"], status="FINISHED")
    assert MlflowClient(f"sqlite:///{project}/mlflow.db").get_run(run_id).data.tags["validate.drift"] == "0.1 bits"


def test_what_validate_writes_does_not_depend_on_the_registry(project):
    """With a champion that has another text, the outputs are the same bytes."""
    root = Path(__file__).parents[2]
    params = (root / "params.yaml").read_text().replace("model_name: charlm", "model_name: m")
    params = params.replace("max_overlap: 0.02", "max_overlap: 1.0").replace("data_docs: true", "data_docs: false")
    Path("params.yaml").write_text(params.replace("fail_on: all", "fail_on: [labels_one_on]"))
    import pyarrow.parquet as pq

    for name in ("clean", "split"):
        Path(f"data/{name}").mkdir(parents=True)
    documents = tables(TEXT)
    build_splits(documents, Path("data/split"), SplitParams(buckets=(32,)))
    (batch,) = documents()
    with pq.ParquetWriter("data/clean/part-00000.parquet", batch.schema) as writer:
        writer.write_batch(batch)

    def written():
        done = subprocess.run(
            [sys.executable, "-m", "stages.validate"], capture_output=True, text=True,
            env=os.environ | {"PYTHONPATH": str(root)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        names = ("data/validated.json", "reports/alphabet.csv", "reports/validation.json", "metrics/validate.json")
        return done.stderr, {name: Path(name).read_bytes() for name in names}

    said, before = written()
    assert "warning: validate: eval_fills_a_window" not in said
    assert "drifted" not in said
    crown(f"{ALPHABET}U+0061,a,90,0,0\n")
    said, after = written()
    assert "warning: the text drifted from champion version 1's: 29 new characters (" in said
    assert before == after
=======
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
        "import sys; from pipeline.tracking.champion import of_champion; "
        f"print(of_champion({ALPHABET!r}), 'mlflow' in sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("None False\n", "")
    assert not any(path.name != "params.yaml" for path in project.iterdir())


@pytest.mark.parametrize("variable", ["MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"])
def test_a_registry_that_is_named_may_have_one(project, monkeypatch, variable):
    assert not there_may_be_one()
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    assert there_may_be_one()


def test_one_may_lie_in_the_root_that_dvc_names(project, monkeypatch):
    (project / "root").mkdir()
    (project / "root/mlflow.db").touch()
    assert not there_may_be_one()
    monkeypatch.setenv("DVC_ROOT", str(project / "root"))
    assert there_may_be_one()


def test_a_file_of_the_champions_run(versions):
    assert of_champion(ALPHABET) is None  # versions, but no champion
    versions.set_registered_model_alias("own", "champion", "1")
    assert of_champion(ALPHABET) == OfChampion("1", TABLE)
    assert of_champion("validate/other.csv") is None
    assert of_champion("alphabet.csv") is None
    versions.set_registered_model_alias("own", "champion", "2")
    assert of_champion(ALPHABET) is None


def test_the_champion_is_that_of_the_model_in_params(project, versions):
    versions.set_registered_model_alias("own", "champion", "1")
    (project / "params.yaml").write_text("register: {model_name: another}\n", encoding="utf-8")
    assert of_champion(ALPHABET) is None


def test_a_champion_whose_files_are_lost_or_whose_store_is_in_trouble_raises_and_costs_a_stage_a_line(
    project, versions, monkeypatch, capsys
):
    stage = StageRun("validate", Session(key="test", path=project / "session.json"))
    versions.set_registered_model_alias("own", "champion", "1")
    assert stage.of_champion(Path("reports/alphabet.csv")) == OfChampion("1", TABLE)
    (one,) = (project / "mlruns").rglob("alphabet.csv")
    one.write_bytes(b"\xff\xfe")
    with pytest.raises(UnicodeDecodeError):
        of_champion(ALPHABET)
    assert stage.of_champion(Path("reports/alphabet.csv")) is None
    assert capsys.readouterr().err.startswith("warning: validate: not compared with the champion ('utf-8' codec can")

    def in_trouble(*_):
        raise mlflow.MlflowException("the database\nis locked")

    monkeypatch.setattr(registry, "champion_version", in_trouble)
    assert stage.of_champion(Path("reports/alphabet.csv")) is None
    assert capsys.readouterr().err == ("warning: validate: not compared with the champion (the database is locked)\n")


def test_a_store_that_is_away_costs_a_stage_a_line(project, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="does not answer"):
        of_champion(ALPHABET)
    stage = StageRun("validate", Session(key="test", path=project / "session.json"))
    assert stage.of_champion(Path("reports/alphabet.csv")) is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: validate: not compared with the champion (MLFLOW_TRACKING_URI: http://127.0.0.1:9")


def test_a_damaged_store_costs_a_stage_a_line(project, capsys):
    (project / "mlflow.db").write_bytes(b"no database" * 100)
    stage = StageRun("validate", Session(key="test", path=project / "session.json"))
    assert stage.of_champion(Path("reports/alphabet.csv")) is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: validate: not compared with the champion (")
>>>>>>> vtests

"""MLflow's store: which versions of it are read without MLflow, how it is created, found and moved."""

import os
import sqlite3
import subprocess
import sys

import pytest
from mlflow import MlflowClient

from pipeline.core.errors import UserError
from pipeline.lineage.disk import relocate
from pipeline.tracking.execution import Session, execution_here
from pipeline.tracking.publish import publish
from pipeline.tracking.records import stages_before
from pipeline.tracking.store import (
    Registered,
    by_key,
    check_server,
    check_store,
    local_versions,
    open_store,
    reason_of,
    registry_is_remote,
    tracking_uri,
)


def test_the_champion_or_newest_of_versions_with_the_same_weights_is_chosen():
    one, two, three = (Registered("m", n, alias, "") for n, alias in ((1, "champion"), (2, ""), (3, "")))
    assert by_key([(one, "a"), (two, "a"), (two, "b"), (three, "b"), (three, None)]) == {"a": one, "b": three}


def test_a_reason_belongs_to_the_alias_that_the_version_has():
    assert reason_of("challenger", {"gate": "challenger: not better: 4 against 3"}) == "not better: 4 against 3"
    assert reason_of("champion", {"gate": "challenger: not better", "champion.reason": "mine"}) == "mine"
    assert reason_of("", {"gate": "champion: there is no champion yet"}) == ""


def test_a_file_that_cannot_be_read_is_an_empty_registry(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("DVC_ROOT", "MLFLOW_REGISTRY_URI", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    assert local_versions() == {}
    assert not (tmp_path / "mlflow.db").exists()
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("CREATE TABLE another (version)")
    assert local_versions() == {}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:1")
    assert registry_is_remote()
    assert local_versions() == {}


def client():
    return MlflowClient(tracking_uri=tracking_uri())


def runs():
    return client().search_runs([client().get_experiment_by_name("charlm").experiment_id])


@pytest.mark.end_to_end
def test_a_server_that_does_not_answer_is_an_error(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"^MLFLOW_TRACKING_URI: http://127.0.0.1:9 does not answer"):
        check_server()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///x.db")
    check_server()


@pytest.mark.end_to_end
def test_after_a_move_the_artifacts_are_found_again(project, monkeypatch):
    run_id = publish(execution_here(), Session.current(), [*stages_before("train"), "train"], status="FINISHED")
    moved = project.parent / f"{project.name}-moved"
    project.rename(moved)
    monkeypatch.chdir(moved)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    old, changed = relocate(moved)
    assert old == project.as_uri()
    assert changed == 2  # the experiment and the run
    assert [artifact.path for artifact in client().list_artifacts(run_id, "train")] == ["train/train.csv"]
    assert relocate(moved)[1] == 0
    with pytest.raises(UserError, match=r"mlflow.db: no such file"):
        relocate(moved / "plots")


@pytest.mark.end_to_end
def test_two_processes_may_create_the_store_at_once(project):
    code = (
        "from pipeline.tracking.store import open_store\n"
        "with open_store() as (client, experiment): print(client.create_run(experiment).info.run_id)"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ.copy())
        for _ in range(2)
    ]
    assert all(process.communicate()[0].strip() and process.returncode == 0 for process in both)
    assert len(runs()) == 2


@pytest.mark.end_to_end
def test_the_store_is_in_the_root_of_dvc(project, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(project / "main"))
    (project / "main").mkdir()
    with open_store() as (_, experiment_id):
        assert experiment_id
    assert (project / "main/mlflow.db").exists()


def damaged(kind, whole):
    half = len(whole) // 2 // 4096 * 4096
    return {
        "empty": b"",
        "text": b"a text file\n" * 500,
        "cut": whole[:half],
        "zeros": bytes(len(whole)),
        "overwritten": whole[:4096] + os.urandom(len(whole) - 4096),
    }[kind]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of a store with one experiment."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_ROOT", str(folder))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("MLFLOW_REGISTRY_URI", raising=False)
        with open_store():
            pass
    return (folder / "mlflow.db").read_bytes()


@pytest.mark.parametrize("kind", ["empty", "text", "cut", "zeros", "overwritten"])
def test_a_damaged_store_is_refused_and_left_alone(project, monkeypatch, whole, kind):
    """Else MLflow begins a new registry, in which there is no champion yet."""
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    (project / "dvc.lock").write_text("stages: {register: {outs: [{path: models/registration.json}]}}\n")
    (project / "mlflow.db").write_bytes(bad := damaged(kind, whole))
    for check in (check_store, lambda: open_store().__enter__()):
        with pytest.raises(UserError, match=r"^mlflow.db: .*; restore it from a backup, or delete it") as refused:
            check()
        assert "\n" not in str(refused.value)
    assert (project / "mlflow.db").read_bytes() == bad


@pytest.mark.parametrize("known", ["dvc.lock", "mlruns"])
def test_an_empty_store_is_new_only_if_nothing_knows_of_earlier_runs(project, monkeypatch, known):
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    (project / "mlflow.db").touch()
    check_store()  # a process was killed while it created the store
    if known == "mlruns":
        (project / "mlruns/1/run").mkdir(parents=True)
    else:
        (project / "dvc.lock").write_text("stages: {register: {outs: [{path: models/registration.json}]}}\n")
    with pytest.raises(UserError, match=f"mlflow.db: 0 bytes, although {known} knows of earlier runs"):
        check_store()
    (project / "mlflow.db").unlink()
    check_store()  # deleted on purpose


def test_a_store_without_tables_is_damaged_if_there_were_runs(project, monkeypatch):
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    with sqlite3.connect(project / "mlflow.db") as database:
        database.execute("CREATE TABLE one (a)")
        database.execute("DROP TABLE one")
    check_store()
    (project / "mlruns/1/run").mkdir(parents=True)
    with pytest.raises(UserError, match=r"mlflow.db: damaged \(no tables\)"):
        check_store()

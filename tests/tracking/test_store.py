import sqlite3

from pipeline.tracking.store import Registered, by_weights, local_versions, reason_of, registry_is_remote


def test_the_champion_or_newest_of_versions_with_the_same_weights_is_chosen():
    one, two, three = (Registered("m", n, alias, "") for n, alias in ((1, "champion"), (2, ""), (3, "")))
    assert by_weights([(one, "a"), (two, "a"), (two, "b"), (three, "b"), (three, None)]) == {"a": one, "b": three}


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

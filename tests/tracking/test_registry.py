import json
import threading

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from pipeline.core.errors import UserError
from pipeline.evaluation.measurement import measurement
from pipeline.tracking.registry import (
    Gate,
    Standing,
    decide,
    find_champion,
    find_version,
    pass_gate,
    promote,
    rollback,
    versions,
)

RECORD = measurement(eval_sha256="same", window=100, unknown_chars=0)
OTHER = RECORD | {"eval_sha256": "other"}


def standing(perplexity, version="2", record=RECORD):
    return Standing(version, perplexity, record)


@pytest.mark.parametrize(
    ("perplexity", "champion", "alias", "reason"),
    [
        (3.0, None, "champion", "no champion yet"),
        (3.0, standing(3.1, "1"), "champion", "3.0000 against 3.1000 of version 1"),
        (3.1, standing(3.1, "1"), "challenger", "not better"),
        (6.0, None, "challenger", "over register.max_perplexity 5"),
        (
            2.0,
            standing(3.1, "1", OTHER),
            "challenger",
            "not comparable with champion version 1: eval text other against",
        ),
        (2.0, standing(3.1, "1", RECORD | {"window": 20}), "challenger", "version 1: window 20 against 100"),
        (2.0, standing(3.1, "1", RECORD | {"precision": "bf16"}), "challenger", "precision bf16 against float32"),
        (2.0, standing(3.1, "1", RECORD | {"padding": "counted"}), "challenger", "padding counted against not counted"),
        (2.0, standing(3.1, "1", RECORD | {"protocol": 0}), "challenger", "protocol 0 against 1"),
        (2.0, standing(3.1, "1", None), "challenger", "version 1: there is no record of how it was measured"),
    ],
)
def test_the_gate_decides_by_perplexities_that_were_measured_alike(perplexity, champion, alias, reason):
    decision = decide(standing(perplexity), champion, Gate(5.0))
    assert decision.alias == alias
    assert reason in decision.reason


def test_a_champion_beats_the_baseline_if_one_was_measured():
    worse, unknown = Standing("2", 3.3, RECORD, 3.2), Standing("2", 3.3, RECORD)
    assert "not below the n-gram baseline's 3.2000" in decide(worse, None, Gate(beat_baseline=True)).reason
    assert decide(worse, None, Gate()).alias == "champion"
    assert decide(unknown, None, Gate(beat_baseline=True)).alias == "champion"


@pytest.fixture
def client(tmp_path, monkeypatch):
    """A registry in which 1 was champion, 2 is, 3 is not better, and 4 was measured on another text."""
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    mlflow.set_registry_uri(uri)
    client = MlflowClient(uri, uri)
    client.create_registered_model("m")
    assert find_champion(client, "m") is None
    for version, perplexity, record in (("1", 3.5, RECORD), ("2", 3.2, RECORD), ("3", 3.4, RECORD), ("4", 2.0, OTHER)):
        tags = {"perplexity": repr(perplexity), "measurement": json.dumps(record)}
        client.create_model_version("m", source=str(tmp_path), tags=tags)
        pass_gate(client, "m", standing(perplexity, version, record), Gate(5.0))
    return client


def champion(client):
    return find_champion(client, "m").version


def test_the_gate_moves_the_alias_and_says_why(client):
    assert find_champion(client, "m") == standing(3.2, "2")
    assert client.get_model_version_by_alias("m", "challenger").version in {4, "4"}
    assert client.get_model_version("m", "3").tags["gate"].startswith("challenger: not better")
    assert [(str(one.version), one.aliases) for one in versions(client, "m")] == [
        ("4", ["challenger"]),
        ("3", []),
        ("2", ["champion"]),
        ("1", []),
    ]


def test_a_worse_version_is_promoted_only_by_force(client):
    with pytest.raises(UserError, match=r"version 3 was not promoted: not better: .*; --force promotes it anyway"):
        promote(client, "m", "3", reason="", force=False)
    assert champion(client) == "2"
    line = promote(client, "m", "3", reason="it reads better", force=True)
    assert line == "m version 3 is champion after version 2: it reads better"
    assert client.get_model_version("m", "3").tags["champion.reason"] == "it reads better"


def test_figures_on_different_texts_are_not_compared(client):
    with pytest.raises(UserError, match="version 2: eval text same against other; --force"):
        promote(client, "m", "4", reason="", force=False)
    assert "forced, although" in promote(client, "m", "4", reason="", force=True)
    assert "challenger" not in client.get_registered_model("m").aliases


def test_rollback_goes_back_step_by_step(client):
    promote(client, "m", "3", reason="", force=True)
    assert rollback(client, "m", reason="too dull") == "m version 2 is champion again, after version 3: too dull"
    assert client.get_model_version("m", "3").tags["champion.until"].endswith("too dull")
    assert rollback(client, "m", reason="").startswith("m version 1 is champion again")
    with pytest.raises(UserError, match="version 1: no version was champion before it"):
        rollback(client, "m", reason="")


def test_rollback_does_not_go_in_circles(client):
    promote(client, "m", "1", reason="", force=True)
    rollback(client, "m", reason="")
    assert champion(client) == "2"
    rollback(client, "m", reason="")
    with pytest.raises(UserError, match="no version was champion before it"):
        rollback(client, "m", reason="")


def test_the_gates_limit_holds_for_a_promotion_too(client):
    with pytest.raises(UserError, match=r"version 1 was not promoted: perplexity 3.5000 is over .* 3.3; --force"):
        promote(client, "m", "1", reason="", force=False, gate=Gate(3.3))


def test_a_failing_registry_is_not_one_without_a_champion(client, monkeypatch):
    def fail(*_):
        raise MlflowException("the database is unreachable")

    monkeypatch.setattr(client, "get_model_version_by_alias", fail)
    with pytest.raises(MlflowException):
        find_champion(client, "m")


def test_a_rollback_to_a_deleted_version_changes_nothing(client):
    client.delete_model_version("m", "1")
    with pytest.raises(UserError, match=r"m: no version 1; there are 4 @challenger, 3, 2 @champion$"):
        rollback(client, "m", reason="")
    assert champion(client) == "2"


def test_versions_are_found_by_number_and_alias(client):
    assert str(find_version(client, "m", "champion").version) == "2"
    with pytest.raises(UserError, match=r"no version 9; there are 4 @challenger, 3, 2 @champion, 1$"):
        find_version(client, "m", "9")
    with pytest.raises(UserError, match="is the champion already"):
        promote(client, "m", "2", reason="", force=False)
    with pytest.raises(UserError, match=r"nobody: no model has this name; there are m$"):
        find_version(client, "nobody", "champion")


def test_concurrent_promotions_are_all_recorded(client):
    def work(version):
        promote(MlflowClient(client.tracking_uri, client.tracking_uri), "m", version, reason=version, force=True)

    threads = [threading.Thread(target=work, args=(version,)) for version in ("1", "3", "4")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    last = champion(client)
    seen = {last}
    while (before := client.get_model_version("m", last).tags["champion.before"]) != "2":
        assert before not in seen
        seen.add(before)
        last = before
    assert seen == {"1", "3", "4"}  # each one knows the one before it: none was lost

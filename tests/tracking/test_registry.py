import mlflow
import pytest
from mlflow import MlflowClient

from pipeline.tracking.registry import Standing, decide, find_champion, promote


def standing(perplexity, version="2", eval_sha256="same"):
    return Standing(version, perplexity, eval_sha256)


@pytest.mark.parametrize(
    ("perplexity", "champion", "alias", "reason"),
    [
        (3.0, None, "champion", "no champion yet"),
        (3.0, standing(3.1, "1"), "champion", "3.0000 against 3.1000 of version 1"),
        (3.1, standing(3.1, "1"), "challenger", "not better"),
        (6.0, None, "challenger", "over register.max_perplexity 5"),
        (2.0, standing(3.1, "1", "other"), "challenger", "another eval text: not comparable"),
    ],
)
def test_the_gate(perplexity, champion, alias, reason):
    decision = decide(standing(perplexity), champion, max_perplexity=5.0)
    assert decision.alias == alias
    assert reason in decision.reason


def test_promotion_moves_the_alias_and_says_why(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".charlm").mkdir()
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    mlflow.set_registry_uri(uri)
    client = MlflowClient(uri, uri)
    client.create_registered_model("m")
    assert find_champion(client, "m") is None
    for version, perplexity in (("1", 3.5), ("2", 3.2), ("3", 3.4)):
        tags = {"perplexity": repr(perplexity), "eval_sha256": "same"}
        client.create_model_version("m", source=str(tmp_path), tags=tags)
        promote(client, "m", standing(perplexity, version), max_perplexity=5.0)
    assert find_champion(client, "m") == standing(3.2, "2")
    assert client.get_model_version_by_alias("m", "challenger").version in {3, "3"}
    assert client.get_model_version("m", "3").tags["gate"].startswith("challenger: not better")

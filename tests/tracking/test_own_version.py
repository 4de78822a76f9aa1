from pipeline.files import write_json
from pipeline.tracking.own_version import address_of_model
from pipeline.tracking.store import open_store


def test_the_address_is_that_of_this_projects_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with open_store() as (client, _):
        client.create_registered_model("charlm-own")
        for weights in ("one", "two", "two"):
            client.create_model_version("charlm-own", "mlflow-artifacts:/x", tags={"weights_sha256": weights})
        client.set_registered_model_alias("charlm-own", "champion", "1")
    for name, weights, address in (
        ("charlm-own", "one", "models:/charlm-own@champion"),
        ("charlm-own", "two", "models:/charlm-own/3"),
        ("charlm-own", "three", None),
        ("charlm-other", "one", None),
        (None, "one", None),
    ):
        write_json(tmp_path / "models/registration.json", {"model_name": name, "weights_sha256": weights})
        assert address_of_model(tmp_path) == address

"""The evaluate stage with an existing split and model, without MLflow."""

from contextlib import nullcontext

import numpy as np
import pytest
from support.models import random_model
from support.tables import TEXT, tables

from pipeline.core.errors import UserError
from pipeline.core.files import read_json, write_json
from pipeline.dataset.build_splits import build_splits
from pipeline.dataset.dictionary import UNKNOWN, Dictionary
from pipeline.evaluation.measurement import measurement_id
from pipeline.model.saved import NetworkConfig, SavedModel
from pipeline.params.text import SplitParams
from stages import evaluate

NAMES = ["baseline_perplexity", "baseline_perplexity_stateful", "baseline"]


@pytest.fixture(params=["stream", "documents"])
def project(tmp_path, monkeypatch, request):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evaluate, "stage", nullcontext)
    (tmp_path / "data/split").mkdir(parents=True)
    (tmp_path / "plots").mkdir()
    texts = [TEXT[at : at + 150] for at in range(0, len(TEXT), 150)]
    params = SplitParams(samples=request.param, buckets=(20,), dictionary_from="train")
    build_splits(tables(*texts), tmp_path / "data/split", params)
    dictionary = Dictionary.load(tmp_path / "data/split/dictionary.json")
    model = random_model()
    config = NetworkConfig(**model.config.model_dump() | {"vocab_size": len(dictionary)})
    weights = {name: model.weights[name][:1].repeat(shape[0], axis=0) for name, shape in config.shapes().items()}
    SavedModel(config, weights, dictionary).save(tmp_path / "models/charlm")
    write_json(tmp_path / "metrics/split.json", {"eval_sha256": "b" * 64})
    write_json(tmp_path / "metrics/train.json", {"seconds": 1.0, "parameters": 9, "chars_per_second": 5})
    return tmp_path


def figures(project, params):
    (project / "params.yaml").write_text(f"evaluate: {params}\n", encoding="utf-8")
    evaluate.main()
    return read_json(project / "metrics/evaluate.json")


def test_a_baseline_is_measured_on_the_eval_text(project):
    found = figures(project, "{window: 20, batch_size: 4, baseline_order: 5}")
    assert found["baseline"] == "Kneser-Ney order 5"
    assert 1 < found["baseline_perplexity_stateful"] < found["baseline_perplexity"] < 3  # the text repeats itself
    assert found == figures(project, "{window: 20, batch_size: 4, baseline_order: 5}")
    names = list(found)
    assert names.index("perplexity") < names.index("baseline_perplexity") < names.index("buckets")


def test_the_record_of_the_measurement_is_stored_with_the_figures(project):
    found = figures(project, "{window: 20, batch_size: 4}")
    assert found["measurement"] | {"measured": ""} == {
        "protocol": 1,
        "eval_sha256": "b" * 64,
        "window": 20,
        "unknown_chars": 0,
        "start": "zero state",
        "padding": "not counted",
        "precision": "float32",
        "least_probability": 1e-15,
        "measured": "",
    }
    assert found["measurement_id"] == measurement_id(found["measurement"])
    assert figures(project, "{window: 20, batch_size: 8}")["measurement_id"] == found["measurement_id"]
    assert figures(project, "{window: 30, batch_size: 4}")["measurement_id"] != found["measurement_id"]
    summary = read_json(project / "metrics/summary.json")
    assert len(summary) <= 10
    assert all(isinstance(value, int | float) for value in summary.values())


def test_characters_that_the_dictionary_lacks_are_a_part_of_the_measurement(project):
    """They all count as one symbol, which is easier to predict."""
    before = figures(project, "{window: 20}")
    ids = np.load(project / "data/split/eval/ids.npy")
    ids[3] = UNKNOWN
    np.save(project / "data/split/eval/ids.npy", ids)
    dictionary = read_json(project / "models/charlm/dictionary.json")
    if not dictionary.get("unknown"):
        pytest.skip("the dictionary has no unknown symbol")
    after = figures(project, "{window: 20}")
    assert (before["measurement"]["unknown_chars"], after["measurement"]["unknown_chars"]) == (0, 1)


def test_order_0_turns_the_baseline_off(project):
    found = figures(project, "{window: 20, batch_size: 4, baseline_order: 0}")
    assert not set(NAMES) & set(found)
    assert found["perplexity"] > 1


def test_the_adaptive_perplexity_is_measured_on_request(project):
    found = figures(project, "{window: 20, batch_size: 4, adaptive: true}")
    assert 1 < found["perplexity_adaptive"] < found["perplexity_stateful"]  # the text repeats itself
    without = figures(project, "{window: 20, batch_size: 4}")
    assert without == {name: value for name, value in found.items() if name != "perplexity_adaptive"}


@pytest.mark.parametrize("order", [-1, 17, "high"])
def test_an_order_out_of_range_is_refused_in_one_line(project, order):
    with pytest.raises(UserError, match=r"evaluate\.baseline_order") as refused:
        figures(project, f"{{baseline_order: {order}}}")
    assert "\n" not in str(refused.value)
    assert str(order) in str(refused.value)
    assert not (project / "metrics/evaluate.json").exists()

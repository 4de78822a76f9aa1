import json
from types import SimpleNamespace

import pytest
from support.models import random_model

from pipeline.core.files import write_json
from pipeline.evaluation.measurement import measurement_id
from pipeline.serving.model_source import load_served, project_card
from pipeline.serving.registration import _tags

FIGURES = {"perplexity": 3.59361, "bits_per_char": 1.84541, "eval_sha256": "b" * 64}
BASELINE = {"baseline_perplexity": 3.605479, "baseline": "Kneser-Ney order 9"}


@pytest.fixture
def project(tmp_path):
    write_json(tmp_path / "metrics/split.json", {"train_chars": 900, "eval_chars": 100, "train_sha256": "a" * 64})
    (tmp_path / "plots").mkdir()
    curve = "step,seconds,train_perplexity,eval_perplexity\n1,2.5,5.5,4.5\n"
    (tmp_path / "plots/train.csv").write_text(curve, encoding="utf-8")
    (tmp_path / "params.yaml").write_text("data: {source: corpus.txt}\n", encoding="utf-8")
    random_model().save(tmp_path / "models/charlm")
    return tmp_path


def card_with(project, figures):
    write_json(project / "metrics/evaluate.json", figures)
    return project_card(random_model(), project)


def test_the_card_has_perplexity_and_baseline(project):
    card = card_with(project, FIGURES | BASELINE)
    assert card["perplexity"] == 3.5936
    assert card["baseline_perplexity"] == 3.6055
    assert card["baseline"] == "Kneser-Ney order 9"
    assert card["measurement"] is None
    assert json.dumps(card)


def test_the_card_says_how_perplexity_was_measured(project):
    card = card_with(project, FIGURES | {"measurement": {"window": 100}})
    assert card["measurement"] == {"window": 100}
    assert card["measurement_id"] == measurement_id({"window": 100})


def test_the_card_of_a_model_without_a_baseline(project):
    card = card_with(project, FIGURES)
    assert card["perplexity"] == 3.5936
    assert card["baseline_perplexity"] is None
    assert card["baseline"] is None


def test_a_version_has_the_baseline_as_a_tag(project):
    tags = {"git.commit": "c", "git.clean": "true"}
    write_json(project / "metrics/train.json", {})
    execution = SimpleNamespace(folder=project, tags=tags, params=lambda: {"data.source": "corpus.txt"})
    assert _tags(execution, FIGURES | BASELINE)["baseline_perplexity"] == "3.605479"
    assert "baseline_perplexity" not in _tags(execution, FIGURES)


def test_the_curve_has_every_point_and_no_eval_where_it_was_not_measured(tmp_path):
    write_json(tmp_path / "metrics/evaluate.json", {"perplexity": 3.5, "bits_per_char": 1.8})
    write_json(tmp_path / "metrics/split.json", {"train_chars": 9, "eval_chars": 1})
    (tmp_path / "params.yaml").write_text("data: {source: a/book.txt}\n")
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots/train.csv").write_text(
        "step,seconds,train_perplexity,eval_perplexity\n1,0.5,9.5,\n2,1.0,8.5,8.1\n"
    )
    curve = project_card(random_model(), tmp_path)["curve"]
    assert [point["train_perplexity"] for point in curve] == [9.5, 8.5]
    assert [point["eval_perplexity"] for point in curve] == [None, 8.1]


def test_a_model_in_a_folder_has_the_folders_name(tmp_path):
    random_model().save(tmp_path / "speeches")
    assert load_served(str(tmp_path / "speeches")).card["name"] == "speeches"

"""The library's public names: what a notebook or another program imports."""

import subprocess
import sys

import pytest
from support.models import random_model

import charlm


@pytest.fixture
def folder(tmp_path):
    random_model().save(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def model(folder):
    return charlm.load(folder)


def test_the_same_seed_gives_the_same_text(model):
    first = model.generate("abc", temperature=0.9, max_new_chars=40, seed=3)
    assert len(first.completion) == 40
    assert model.generate("abc", charlm.Sampling(temperature=0.9, max_new_chars=40, seed=3)) == first


def test_a_stream_yields_what_generate_returns(model):
    options = {"temperature": 0.9, "max_new_chars": 40, "seed": 3}
    assert "".join(model.stream("abc", **options)) == model.generate("abc", **options).completion


def test_a_batch_gives_the_same_texts_as_single_prompts(model):
    alone = [model.generate(prompt, max_new_chars=20, seed=1) for prompt in ("abc", "hgf")]
    assert model.generate_batch(["abc", "hgf"], max_new_chars=20, seed=1) == alone
    seeds = [charlm.Sampling(max_new_chars=20, seed=seed) for seed in (1, 2)]
    assert model.generate_batch(["abc", "abc"], seeds)[0] == alone[0]


def test_a_score_counts_unknown_characters(model):
    score = model.score("abcZ")
    assert (score.text, score.dropped) == ("abc", 1)
    assert score.perplexity > 1


def test_a_card_describes_the_model(model):
    assert model.card["network"] == "LSTM, 2 layers of 12"
    assert model.characters == model.card["characters"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temprature": 1}, "temprature: unknown option; allowed are max_new_chars, temperature"),
        ({"temperature": -1}, "temperature: found -1"),
        ({"sampling": charlm.Sampling(), "seed": 1}, "seed: found next to a sampling"),
    ],
)
def test_a_wrong_option_is_named_in_the_error(model, options, message):
    with pytest.raises(charlm.UserError, match=message):
        model.generate("abc", **options)


def test_the_number_of_samplings_must_match_the_prompts(model):
    with pytest.raises(charlm.UserError, match="found 1 for 2 prompts"):
        model.generate_batch(["a", "b"], [charlm.Sampling()])


def test_a_missing_model_is_named_in_the_error(tmp_path):
    with pytest.raises(charlm.UserError, match="nowhere"):
        charlm.load(tmp_path / "nowhere")


def test_neither_torch_nor_mlflow_is_imported_for_a_folder(folder):
    code = (
        f"import charlm, sys; charlm.load({str(folder)!r}).generate('abc');"
        "print('torch' in sys.modules, 'mlflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]

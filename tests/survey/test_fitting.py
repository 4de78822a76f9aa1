import pytest

from pipeline.params.training import ModelParams
from pipeline.survey.plan import DEFAULT, fit, hint


def values(characters):
    return {one.key: float(one.value) for one in fit(characters)}


def test_a_small_text_gets_a_smaller_network_more_dropout_and_more_passes():
    small, middle, large = values(60_000), values(250_000), values(1_000_000)
    assert small["model.num_hidden"] < large["model.num_hidden"] == DEFAULT.hidden
    assert small["model.dropout"] > middle["model.dropout"] > large["model.dropout"] == 0
    assert small["train.epochs"] > middle["train.epochs"] > large["train.epochs"]


@pytest.mark.parametrize("characters", [2_000_000, 10_000_000, 10**9, 10**12])
def test_a_large_text_is_trained_for_about_as_long_as_the_default(characters):
    epochs = values(characters)["train.epochs"]
    assert epochs > 0
    if characters <= 10**8:
        assert epochs * characters == pytest.approx(6_000_000, rel=0.1)


def test_the_hint_is_for_texts_that_are_too_small_for_their_network():
    assert hint(57_802, ModelParams(num_hidden=256), vocab_size=111).startswith("HINT: 57,802 characters are few for a")
    assert "docs/tune.md" in hint(57_802, ModelParams(num_hidden=256), vocab_size=111)
    assert hint(200_000, ModelParams(num_hidden=2048), vocab_size=100) is not None
    assert hint(1_000_000, ModelParams(num_hidden=384), vocab_size=82) is None

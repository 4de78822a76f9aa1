import numpy as np
import pytest
import torch
from conftest import random_model

from pipeline.generation.engine import Engine
from pipeline.model.network import CharNetwork


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("layers", [1, 3])
def test_the_logits_are_the_networks(cell, layers):
    model = random_model(cell, layers=layers)
    network = CharNetwork(model.config).eval()
    network.load_weights(model.weights)
    ids = np.random.default_rng(1).integers(1, len(model.dictionary), 200)
    with torch.inference_mode():
        expected = network(torch.from_numpy(ids)[:, None])[0][:, 0].numpy()
    engine, state = Engine(model), None
    for at, token in enumerate(ids):
        state = engine.read([token], state)
        np.testing.assert_allclose(engine.logits(state), expected[at], atol=1e-5)


def test_a_state_can_be_forked():
    engine = Engine(random_model())
    state = engine.read([1, 2, 3])
    one, other = engine.step(4, state), engine.step(5, state)
    assert engine.logits(one).tolist() != engine.logits(other).tolist()
    assert engine.logits(engine.step(4, state)).tolist() == engine.logits(one).tolist()

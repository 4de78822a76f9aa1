"""The torch network: names, shapes, state and initial weights."""

import math

import numpy as np
import pytest
import torch
from support.models import random_model

from pipeline.model.network import CharNetwork, initialise, start_at_frequencies


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_weights_have_the_names_and_shapes_of_a_saved_model(cell):
    model = random_model(cell, layers=3)
    network = CharNetwork(model.config)
    network.load_weights(model.weights)
    assert {name: value.shape for name, value in network.weights().items()} == model.config.shapes()
    assert all((network.weights()[name] == value).all() for name, value in model.weights.items())


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_reading_a_text_in_two_chunks_gives_the_same_logits(cell):
    model = random_model(cell)
    network = CharNetwork(model.config)
    network.load_weights(model.weights)
    ids = torch.randint(1, len(model.dictionary), (9, 2))
    whole, _ = network(ids)
    first, state = network(ids[:4])
    second, _ = network(ids[4:], state)
    torch.testing.assert_close(torch.cat([first, second]), whole)


def test_initial_weights_are_xavier_over_whole_matrices():
    config = random_model(hidden=96).config
    network = CharNetwork(config)
    initialise(network, magnitude=3.0, generator=torch.Generator().manual_seed(1))
    weight = network.weights()["layers.1.weight_hh_l0"]
    assert weight.std() == pytest.approx(math.sqrt(3 / ((96 + 4 * 96) / 2)), rel=0.02)
    assert network.weights()["layers.0.bias_ih_l0"].any() == False  # noqa: E712  a numpy bool


def test_a_unigram_output_layer_predicts_the_character_frequencies():
    network = CharNetwork(random_model().config)
    counts = np.array([0, 5, 10, 0, 85, 1, 1, 1, 1, 1, 1])
    start_at_frequencies(network, counts, generator=torch.Generator().manual_seed(1))
    probs = torch.softmax(network(torch.tensor([[1]]))[0], -1)[0, 0].detach().numpy()
    assert probs == pytest.approx((counts + 0.5) / (counts + 0.5).sum(), rel=0.2)


def test_initial_weights_depend_only_on_the_seed():
    def weights(seed):
        network = CharNetwork(random_model().config)
        initialise(network, magnitude=3.0, generator=torch.Generator().manual_seed(seed))
        return network.weights()["output.weight"].tolist()

    assert weights(1) == weights(1)
    assert weights(1) != weights(2)

import math

import numpy as np
import pytest
import torch
from conftest import random_model

from pipeline.dataset.batches import ordered_batches
from pipeline.dataset.samples import cut_windows
from pipeline.evaluation.breakdown import Breakdown, show
from pipeline.evaluation.perplexity import Total, measure, total, window_batches
from pipeline.model.network import CharNetwork

IDS = np.random.default_rng(0).integers(1, 11, 537).astype(np.uint8)


@pytest.fixture
def network():
    model = random_model()
    network = CharNetwork(model.config)
    network.load_weights(model.weights)
    return network.eval()


def by_hand(network, window):
    """Each window alone, no padding, plain cross-entropy."""
    nll, chars = 0.0, 0
    with torch.inference_mode():
        for start in range(0, len(IDS) - 1, window):
            piece = torch.from_numpy(IDS[start : start + window + 1].astype(np.int64))
            logits = network(piece[:-1, None])[0][:, 0].double()
            nll -= float(torch.log_softmax(logits, -1)[torch.arange(len(piece) - 1), piece[1:]].sum())
            chars += len(piece) - 1
    return math.exp(nll / chars)


@pytest.mark.parametrize("batch_size", [1, 2, 7, 1000])
@pytest.mark.parametrize("window", [50, 100])
def test_the_exact_perplexity_does_not_depend_on_the_batch_size(network, batch_size, window):
    found = total(measure(network, window_batches(IDS, window=window, batch_size=batch_size)))
    assert found.chars == len(IDS) - 1
    assert found.perplexity == pytest.approx(by_hand(network, window), rel=1e-6)


def test_bucketing_does_not_change_what_is_counted(network):
    chars = 0
    for length, samples in cut_windows(len(IDS), (20, 50)).items():
        chars += total(measure(network, ordered_batches(IDS, samples, length, 4))).chars
    assert chars == len(IDS) - 1


@pytest.mark.parametrize("chunk", [10, 100, 1000])
def test_the_carried_state_does_not_depend_on_the_chunk(network, chunk):
    found = total(measure(network, window_batches(IDS, window=chunk, batch_size=1), carry_state=True))
    assert found.perplexity == pytest.approx(by_hand(network, len(IDS)), rel=1e-6)


def test_the_tutorials_mean_is_over_batches(network):
    found = total(measure(network, window_batches(IDS, window=100, batch_size=2)))
    assert len(found.batch_perplexities) == 3
    assert found.perplexity_batch_mean == pytest.approx(sum(found.batch_perplexities) / 3)
    assert found.bits_per_char == pytest.approx(math.log2(found.perplexity))


def test_measuring_leaves_the_mode_as_it_was(network):
    network.train()
    next(measure(network, window_batches(IDS, window=50, batch_size=2)))
    assert network.training


def test_nothing_measured_is_nan():
    assert math.isnan(Total().perplexity)


def test_the_breakdown_adds_up(network):
    breakdown, whole = Breakdown.empty(window=100, vocab_size=11), Total()
    for losses in measure(network, window_batches(IDS, window=100, batch_size=2)):
        breakdown.add(losses)
        whole.add(losses)
    dictionary = random_model().dictionary
    position = breakdown.by_position()
    assert position["chars"].sum() == len(IDS) - 1
    assert math.exp((np.log(position["perplexity"]) * position["chars"]).sum() / (len(IDS) - 1)) == pytest.approx(
        whole.perplexity
    )
    characters = breakdown.by_character(dictionary)
    assert characters["share_of_loss"].sum() == pytest.approx(1)
    assert {"space", "newline"} <= set(characters["character"])
    mistakes = breakdown.mistakes(dictionary, most=1000)
    assert mistakes["count"].sum() == whole.chars - whole.correct
    assert not [mistake for mistake in mistakes["mistake"] if len(set(mistake.split(" → "))) == 1]


def test_symbols_without_a_shape_are_named():
    assert [show(symbol) for symbol in " \n\ta\x07"] == ["space", "newline", "tab", "a", "U+0007"]

import math

import numpy as np
import pytest
import torch
from support.models import random_model

from pipeline.dataset.splits import Split
from pipeline.evaluation import adaptive
from pipeline.evaluation.adaptive import adapt, adaptive_total, segments
from pipeline.evaluation.perplexity import measure, total, whole_batches
from pipeline.model.network import CharNetwork
from pipeline.model.ngram import NgramModel
from pipeline.model.ngram_kernels import COUNT_GROUPS

RANDOM = np.random.default_rng(0)
TRAIN = RANDOM.integers(1, 11, 400).astype(np.uint8)
REPETITIVE = np.tile(RANDOM.integers(1, 11, 40), 40).astype(np.uint8)
# Documents between a begin (1) and an end symbol (2).
DOCUMENTS = np.concatenate([[1, *RANDOM.integers(3, 11, size), 2] for size in (0, 49, 50, 3, 130, 7)]).astype(np.uint8)
STREAM, BOUNDED = Split(REPETITIVE, {}), Split(DOCUMENTS, {}, np.flatnonzero(DOCUMENTS == 1))


def a_network(cell="lstm"):
    model = random_model(cell)
    network = CharNetwork(model.config)
    network.load_weights(model.weights)
    return network


def an_ngram(begin=None, order=4):
    weights = np.full(((order + 1) * COUNT_GROUPS, 2), 0.5, dtype=np.float32)
    return NgramModel.fit(TRAIN, vocab_size=11, order=order, begin=begin).with_weights(weights)


def losses(split, ngram):
    return np.concatenate([scored.nll for scored in adapt(a_network(), split, ngram=ngram)])


@pytest.mark.parametrize("ngram", [None, an_ngram()], ids=["network", "mixture"])
@pytest.mark.parametrize("changed", [1, 57, 100, 101, 777, 1599])
def test_no_character_is_learned_before_it_is_scored(ngram, changed):
    """Other characters from `changed` on change no score of those before."""
    other = REPETITIVE.copy()
    other[changed:] = other[changed:] % 10 + 1
    before, after = losses(STREAM, ngram), losses(Split(other, {}), ngram)
    assert before[: changed - 1].tobytes() == after[: changed - 1].tobytes()
    assert before[changed - 1] != after[changed - 1]


@pytest.mark.parametrize("split", [STREAM, BOUNDED], ids=["stream", "documents"])
@pytest.mark.parametrize("mixed", [False, True])
def test_without_steps_and_rebuilds_it_is_the_stateful_perplexity(split, mixed, monkeypatch):
    monkeypatch.setattr(adaptive, "LEARNING_RATE", 0.0)
    monkeypatch.setattr(adaptive, "REBUILDS", 0)
    ngram = an_ngram(None if split is STREAM else 1) if mixed else None
    found, wanted = (
        adaptive_total(a_network(), split, ngram=ngram),
        total(measure(a_network(), whole_batches(split), ngram=ngram)),
    )
    assert (found.chars, found.correct) == (wanted.chars, wanted.correct)
    assert found.perplexity == pytest.approx(wanted.perplexity, rel=1e-5)


@pytest.mark.parametrize("split", [STREAM, BOUNDED], ids=["stream", "documents"])
def test_rebuilt_n_grams_are_those_of_all_text_before(split, monkeypatch):
    """With a rebuild at every segment, each is scored by a model of the training text and all that precedes it."""
    monkeypatch.setattr(adaptive, "LEARNING_RATE", 0.0)
    monkeypatch.setattr(adaptive, "REBUILDS", len(split.ids))
    monkeypatch.setattr(adaptive, "refit_weights", lambda weights, *_: weights)
    begin = None if split is STREAM else 1
    ngram = an_ngram(begin)
    found = adapt(a_network(), split, ngram=ngram)
    for (first, start, stop), scored in list(zip(segments(split), found, strict=True))[:12]:
        text = np.concatenate([TRAIN, split.ids[:start]])
        by_hand = NgramModel.fit(text, vocab_size=11, order=4, begin=begin).with_weights(ngram.trie.weights)
        document = Split(split.ids[first : stop + 1], {}, None if begin is None else np.zeros(1, np.int64))
        (whole,) = measure(a_network(), whole_batches(document), ngram=by_hand)
        np.testing.assert_allclose(scored.nll, whole.nll[0, start - first :], rtol=1e-4)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_the_network_is_as_before_afterwards(cell):
    network = a_network(cell).train()
    before = network.weights()
    found = adapt(network, STREAM)
    next(found)
    next(found)
    assert any((network.weights()[name] != before[name]).any() for name in before)
    found.close()  # also where a caller reads only the beginning
    for _ in range(2):
        assert network.training
        assert all(network.weights()[name].tobytes() == before[name].tobytes() for name in before)
        adaptive_total(network, STREAM, ngram=an_ngram())


@pytest.mark.parametrize("ngram", [None, an_ngram()], ids=["network", "mixture"])
def test_a_repetitive_text_is_learned(ngram):
    split = Split(np.tile(np.array([3, 3, 7], np.uint8), 3000), {})
    static = total(measure(a_network(), whole_batches(split), ngram=ngram)).perplexity
    assert adaptive_total(a_network(), split, ngram=ngram).perplexity < 0.8 * static


def test_rebuilds_alone_learn_a_repetitive_text(monkeypatch):
    monkeypatch.setattr(adaptive, "LEARNING_RATE", 0.0)
    with_rebuilds = adaptive_total(a_network(), STREAM, ngram=an_ngram()).perplexity
    monkeypatch.setattr(adaptive, "REBUILT_CHARS", 100)
    assert with_rebuilds < 0.8 * adaptive_total(a_network(), STREAM, ngram=an_ngram()).perplexity


@pytest.mark.parametrize("split", [STREAM, BOUNDED], ids=["stream", "documents"])
def test_exponents_are_fitted_to_what_was_scored(split, monkeypatch):
    """What a fit is given are the very losses that were yielded, and the last positions where memory is bounded."""
    monkeypatch.setattr(adaptive, "REBUILDS", 4)
    given = []
    fit = adaptive.refit_weights
    monkeypatch.setattr(adaptive, "refit_weights", lambda *found: (given.append(found), fit(*found))[1])
    ngram = an_ngram(None if split is STREAM else 1)
    nll = np.concatenate([scored.nll for scored in adapt(a_network(), split, ngram=ngram)])
    assert len(given) == 3  # after the blocks 1, 2 and 4
    weights, network, known, groups, labels = given[0]
    mixed = weights[groups, :1] * network + weights[groups, 1:] * known
    right = mixed[np.arange(len(labels)), labels] - np.log(np.exp(mixed).sum(axis=1))
    np.testing.assert_allclose(-right, nll[: len(labels)], rtol=1e-4)
    lengths = [len(one[-1]) for one in given]
    assert lengths == sorted(set(lengths))
    monkeypatch.setattr(adaptive, "MOST_VALUES", 1)
    given.clear()
    adaptive_total(a_network(), split, ngram=ngram)
    assert len(given[2][-1]) < lengths[2]


def test_the_figures_are_the_same_every_time():
    first, second = (adaptive_total(a_network(), STREAM, ngram=an_ngram()) for _ in range(2))
    assert (first.nll, first.correct) == (second.nll, second.correct)


def test_a_text_without_predictions_has_no_perplexity():
    for ids in (REPETITIVE[:0], REPETITIVE[:1]):
        assert math.isnan(adaptive_total(a_network(), Split(ids, {}), ngram=an_ngram()).perplexity)


def test_a_network_that_cannot_learn_more_stays_finite():
    network = a_network()
    with torch.no_grad():
        for weight in network.parameters():
            weight.zero_()
        network.output.bias[1] = 200.0
    found = adaptive_total(network, Split(np.ones(200, np.uint8), {}))
    assert found.perplexity == 1.0

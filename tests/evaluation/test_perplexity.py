"""Perplexity does not depend on batches, buckets or chunks."""

import math

import numpy as np
import pytest
import torch
from support.models import random_model, with_ngram

from pipeline.dataset.arrays import Table, cut_documents, cut_windows
from pipeline.dataset.splits import Split, ordered_batches
from pipeline.evaluation.breakdown import Breakdown, symbol_name
from pipeline.evaluation.perplexity import Total, measure, measure_apart, total, whole_batches, window_batches
from pipeline.model.network import CharNetwork

IDS = np.random.default_rng(0).integers(1, 11, 537).astype(np.uint8)
SPLIT = Split(IDS, cut_windows(len(IDS), (30,)))


@pytest.fixture
def network():
    model = random_model()
    network = CharNetwork(model.config)
    network.load_weights(model.weights)
    return network.eval()


def by_hand(network, window):
    """Return the perplexity by plain cross-entropy, each window alone and without padding."""
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
def test_batch_size_does_not_change_the_perplexity(network, batch_size, window):
    found = total(measure(network, window_batches(SPLIT, window=window, batch_size=batch_size)))
    assert found.chars == len(IDS) - 1
    assert found.perplexity == pytest.approx(by_hand(network, window), rel=1e-6)


def test_buckets_do_not_change_which_characters_are_counted(network):
    chars = 0
    for length, samples in cut_windows(len(IDS), (20, 50)).items():
        chars += total(measure(network, ordered_batches(IDS, samples, length, 4))).chars
    assert chars == len(IDS) - 1


@pytest.mark.parametrize("chunk", [10, 100, 1000])
def test_chunk_length_does_not_change_the_stateful_perplexity(network, chunk, monkeypatch):
    monkeypatch.setattr("pipeline.evaluation.perplexity.CHUNK_LENGTH", chunk)
    found = total(measure(network, whole_batches(SPLIT)))
    assert found.chars == len(IDS) - 1
    assert found.perplexity == pytest.approx(by_hand(network, len(IDS)), rel=1e-6)


# Documents of 0 to 60 characters between a begin (2) and an end symbol (3); ids from 4 are characters.
LENGTHS = (0, 1, 5, 19, 20, 21, 40, 60, 59, 3)
TEXTS = [np.random.default_rng(size).integers(4, 11, size) for size in LENGTHS]
DOCUMENTS = np.concatenate([[2, *text, 3] for text in TEXTS]).astype(np.uint8)
STARTS = np.flatnonzero(DOCUMENTS == 2)


def documents(buckets):
    split = Split(DOCUMENTS, {}, STARTS)
    tables = cut_documents(STARTS, split.ends, buckets)
    return Split(DOCUMENTS, {length: Table(rows) for length, rows in tables.items()}, STARTS)


def each_by_hand(network, window):
    """Return the perplexity and the number of characters, each document alone in windows from the zero state."""
    nll, count = 0.0, 0
    with torch.inference_mode():
        for text in TEXTS:
            ids = torch.tensor([2, *text, 3])
            for start in range(0, len(ids) - 1, window):
                piece = ids[start : start + window + 1]
                logits = network(piece[:-1, None])[0][:, 0].double()
                nll -= float(torch.log_softmax(logits, -1)[torch.arange(len(piece) - 1), piece[1:]].sum())
                count += len(piece) - 1
    return math.exp(nll / count), count


@pytest.mark.parametrize("batch_size", [1, 3, 100])
@pytest.mark.parametrize("buckets", [(20,), (5, 30), (61,)])
def test_batch_size_and_buckets_do_not_change_the_perplexity_of_documents(network, batch_size, buckets):
    found = total(measure(network, window_batches(documents(buckets), window=20, batch_size=batch_size)))
    perplexity, count = each_by_hand(network, 20)
    assert found.chars == count == sum(LENGTHS) + len(LENGTHS)
    assert found.perplexity == pytest.approx(perplexity, rel=1e-6)


@pytest.mark.parametrize("chunk", [7, 1000])
def test_the_state_is_carried_only_within_a_document(network, chunk, monkeypatch):
    monkeypatch.setattr("pipeline.evaluation.perplexity.CHUNK_LENGTH", chunk)
    monkeypatch.setattr("pipeline.evaluation.perplexity.MAX_DOCUMENTS", 3)
    found = total(measure(network, whole_batches(documents((20,)))))
    perplexity, count = each_by_hand(network, 1000)
    assert found.chars == count
    assert found.perplexity == pytest.approx(perplexity, rel=1e-6)


def test_the_batch_mean_averages_the_perplexities_of_batches(network):
    found = total(measure(network, window_batches(SPLIT, window=100, batch_size=2)))
    assert len(found.batch_perplexities) == 3
    assert found.perplexity_batch_mean == pytest.approx(sum(found.batch_perplexities) / 3)
    assert found.bits_per_char == pytest.approx(math.log2(found.perplexity))


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("ngram", [None, with_ngram(random_model()).ngram])
@pytest.mark.parametrize("threads", [1, 3])
def test_batches_that_are_measured_at_once_have_the_same_losses_in_the_same_order(network, ngram, threads):
    network.train()
    batches = list(window_batches(SPLIT, window=50, batch_size=2))
    found = list(measure_apart(network, batches, threads=threads, ngram=ngram))
    assert network.training
    expected = list(measure(network, batches, ngram=ngram))
    assert len(found) == len(expected) > threads
    for own, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(own.nll, other.nll)
        np.testing.assert_array_equal(own.labels, other.labels)


def test_measuring_restores_the_networks_mode(network):
    network.train()
    next(measure(network, window_batches(SPLIT, window=50, batch_size=2)))
    assert network.training


def test_the_perplexity_of_no_characters_is_nan():
    assert math.isnan(Total().perplexity)


def test_the_breakdown_sums_to_the_total_loss(network):
    breakdown, whole = Breakdown.empty(window=100, vocab_size=11), Total()
    for losses in measure(network, window_batches(SPLIT, window=100, batch_size=2)):
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


def test_invisible_symbols_are_named():
    assert [symbol_name(symbol) for symbol in " \n\ta\x07"] == ["space", "newline", "tab", "a", "U+0007"]

"""The baseline's perplexity is measured like the network's."""

import math

import numpy as np
import pytest
from support.models import random_model

from pipeline.dataset.arrays import cut_windows
from pipeline.dataset.splits import Split
from pipeline.evaluation import perplexity
from pipeline.evaluation.perplexity import (
    MAX_NLL,
    baseline_figures,
    baseline_name,
    baseline_total,
    measure,
    total,
    whole_batches,
    whole_rows,
    window_batches,
    window_rows,
)
from pipeline.model.network import CharNetwork
from pipeline.model.ngram import NgramModel

RANDOM = np.random.default_rng(0)
TRAIN = RANDOM.integers(1, 11, 2000).astype(np.uint8)
STREAM = RANDOM.integers(1, 11, 537).astype(np.uint8)
# Documents of 0 to 60 characters between a begin (1) and an end symbol (2); ids from 3 are characters.
TEXTS = [RANDOM.integers(3, 12, size).tolist() for size in (0, 1, 5, 19, 20, 21, 40, 60, 59, 3)]
IDS = np.concatenate([[1, *text, 2] for text in TEXTS]).astype(np.uint8)
DOCUMENTS = Split(IDS, {}, np.flatnonzero(IDS == 1))
SPLITS = {False: Split(STREAM, cut_windows(len(STREAM), (30,))), True: DOCUMENTS}


def model_of(bounded, order=3):
    return NgramModel.fit(
        IDS if bounded else TRAIN, vocab_size=12 if bounded else 11, order=order, begin=1 if bounded else None
    )


def distribution(model, context):
    """Return the probability of every id after `context`."""
    ids = np.array([*context, 1], np.uint8)
    return model.distributions(ids, np.array([[0, len(context), len(ids)]]))[0][0]


def by_hand(split, model, window):
    """Return the perplexity, one label after the other; a window's context starts at its first input."""
    documents = [0] if split.documents is None else split.documents.tolist()
    nll, chars = 0.0, 0
    for start, stop in zip(documents, [*documents[1:], len(split.ids)], strict=True):
        for at in range(start + 1, stop):
            context = split.ids[start + (at - start - 1) // window * window : at]
            nll -= math.log(distribution(model, context)[split.ids[at]])
            chars += 1
    return math.exp(nll / chars), chars


@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize("window", [2, 20, 1000])
def test_baseline_and_network_predict_the_same_characters(bounded, window):
    split, saved = SPLITS[bounded], random_model(bounded=bounded)
    network = CharNetwork(saved.config)
    windows = total(measure(network, window_batches(split, window=window, batch_size=7)))
    whole = total(measure(network, whole_batches(split)))
    model = model_of(bounded)
    assert baseline_total(model, split, window_rows(split, window)).chars == windows.chars
    assert baseline_total(model, split, whole_rows(split, model.order)).chars == whole.chars == windows.chars


@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize("window", [2, 20])
@pytest.mark.parametrize(("piece", "windows"), [(1 << 16, 1 << 12), (4, 3)])
def test_baseline_and_network_have_the_same_contexts(bounded, window, piece, windows, monkeypatch):
    monkeypatch.setattr(perplexity, "PIECE", piece)
    monkeypatch.setattr(perplexity, "WINDOWS", windows)
    split, model = SPLITS[bounded], model_of(bounded)
    figures = baseline_figures(model, split, window=window)
    assert figures["baseline_perplexity"] == pytest.approx(by_hand(split, model, window)[0], rel=1e-12)
    assert figures["baseline_perplexity_stateful"] == pytest.approx(by_hand(split, model, 10**9)[0], rel=1e-12)


def test_baseline_and_network_have_the_same_lowest_probability(monkeypatch):
    ids = np.tile(np.array([1, 2, 3, 4], np.uint8), 5000)
    model = NgramModel.fit(ids, vocab_size=6, order=12)
    row = np.array([[0, 40, 41]])
    surprised = Split(np.array([*ids[:40], 5], np.uint8), {})
    nll = -model.log_probs(surprised.ids, row)[0]
    assert baseline_total(model, surprised, iter([row])).nll == nll < MAX_NLL
    monkeypatch.setattr(perplexity, "MAX_NLL", nll / 2)
    assert baseline_total(model, surprised, iter([row])).nll == nll / 2


def test_the_name_has_the_order_and_the_amount_of_text():
    assert baseline_figures(model_of(bounded=False), SPLITS[False], window=20)["baseline"] == "Kneser-Ney order 3"
    part = NgramModel.fit(TRAIN.repeat(1000), vocab_size=11, order=2, most_chars=1_500_000)
    assert baseline_name(part) == "Kneser-Ney order 2, last 1.5 million characters"

"""The n-gram baseline against a slow implementation of its formulas."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model.kneser_ney import Reference
from support.tables import TEXT

from pipeline.dataset.dictionary import Dictionary
from pipeline.model import ngram
from pipeline.model.ngram import FALLBACK, NgramModel, discounts_of

BEGIN = 2


def fitted(ids, order, vocab_size, begin=None, **limits):
    return NgramModel.fit(np.array(ids, np.uint16), vocab_size=vocab_size, order=order, begin=begin, **limits)


def compare(train, read, *, order, vocab_size, begin=None):
    """Compare each probability with the reference: for `read` as a whole, and in windows of 7."""
    model = fitted(train, order, vocab_size, begin)
    reference = Reference(train, order=order, outcomes=model.outcomes, begin=begin)
    read = np.array(read, np.uint16)
    for window in (len(read) - 1, 7):
        starts = np.arange(0, len(read) - 1, window)
        rows = np.stack([starts, starts + 1, np.minimum(starts + window, len(read) - 1) + 1], axis=1)
        found = np.exp(model.log_probs(read, rows))
        wanted = [
            reference.p(int(read[at]), context_of(read[start:at].tolist(), begin))
            for start, first, stop in rows.tolist()
            for at in range(first, stop)
        ]
        counted = np.concatenate([read[first:stop] for _, first, stop in rows.tolist()]) != (begin or 0)
        np.testing.assert_allclose(found[counted], np.array(wanted)[counted], rtol=1e-9, atol=0)


def distribution(model, context):
    """The probability of every id after `context`."""
    ids = np.array([*context, 1], np.uint16)
    return model.distributions(ids, np.array([[0, len(context), len(ids)]]))[0][0]


def context_of(ids, begin):
    """Return the ids that are context: those from the last begin symbol on."""
    return ids[len(ids) - 1 - ids[::-1].index(begin) :] if begin in ids else ids


@pytest.mark.parametrize("order", [0, 1, 2, 3, 5, 9, 16])
@pytest.mark.parametrize("vocab_size", [2, 3, 12, 300, 60_000])
def test_random_texts_agree_with_the_reference(order, vocab_size):
    random = np.random.default_rng(order * vocab_size)
    compare(
        random.integers(1, vocab_size, 400), random.integers(1, vocab_size, 100), order=order, vocab_size=vocab_size
    )


@pytest.mark.parametrize("order", [1, 4, 9, 14])
def test_a_real_text_agrees_with_the_reference(order):
    dictionary = Dictionary.of(TEXT + "zq")
    train = dictionary.encode(TEXT[:500] + TEXT[30:200] + TEXT[100:150:-1] * 2)
    read = dictionary.encode("the lazy fox doesn't mind the quick dog.\nbrown fox jumps over the lazy dog, zqzq")
    compare(train, np.maximum(read, 1), order=order, vocab_size=len(dictionary))


@pytest.mark.parametrize("order", [0, 1, 3, 8])
def test_documents_agree_with_the_reference(order):
    random = np.random.default_rng(order)
    train = np.concatenate([[BEGIN, *random.integers(4, 9, size), 3] for size in (0, 5, 30, 1, 60, 60, 2)])
    read = np.concatenate([[BEGIN, *random.integers(4, 9, size), 3] for size in (20, 0, 35)])
    compare(train, read, order=order, vocab_size=9, begin=BEGIN)


TEXTS = st.lists(st.integers(1, 4), min_size=1, max_size=60)


@given(train=TEXTS, read=TEXTS.filter(lambda ids: len(ids) > 1), order=st.integers(0, 6))
def test_any_text_agrees_with_the_reference(train, read, order):
    compare(train, read, order=order, vocab_size=6)


@given(train=TEXTS, context=st.lists(st.integers(1, 5), max_size=12), order=st.integers(0, 8), bounded=st.booleans())
def test_probabilities_sum_to_one_after_any_context(train, context, order, bounded):
    model = fitted(train, order, 7, BEGIN if bounded else None)
    found = distribution(model, context)
    assert found.sum() == pytest.approx(1, abs=1e-12)
    assert found[0] == 0
    assert (found[1:] > 0).sum() == model.outcomes == (5 if bounded else 6)


def test_distribution_and_log_probs_agree():
    dictionary = Dictionary.of(TEXT)
    ids = dictionary.encode(TEXT[:300]).astype(np.uint8)
    model = NgramModel.fit(ids[:200], vocab_size=len(dictionary), order=5)
    scored = model.log_probs(ids, np.array([[0, 250, 260]]))
    found = [math.log(distribution(model, ids[:at])[ids[at]]) for at in range(250, 260)]
    assert found == pytest.approx(scored.tolist(), abs=1e-12)


@pytest.mark.parametrize("text", [[1], [1, 1], [1] * 50, [1, 2], list(range(1, 30)), [1, 2] * 20])
@pytest.mark.parametrize("order", [0, 1, 6])
def test_texts_without_usable_counts_of_counts_get_fixed_discounts(text, order):
    compare(text, [1, 2, 1, 1, 2, 5, 1], order=order, vocab_size=31)
    assert fitted(text, order, 31).trie.discounts[1:].tolist() == [list(FALLBACK)] * (order + 1)


def test_discounts_are_those_of_chen_and_goodman():
    found = discounts_of(np.array([0, 100, 40, 20, 10]))
    share = 100 / 180
    assert found.tolist() == pytest.approx([0, share, 2 - 3 * share * 0.5, 3 - 4 * share * 0.5])
    assert discounts_of(np.array([0, 100, 10, 90, 1])).tolist() == list(FALLBACK)  # the second would be negative
    assert discounts_of(np.array([0, 0, 10, 90, 1])).tolist() == list(FALLBACK)


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_chunk_size_does_not_change_the_model(chunk, monkeypatch):
    ids = np.random.default_rng(0).integers(1, 9, 500)
    first, again = fitted(ids, 4, 9), fitted(ids, 4, 9)
    assert all((one == other).all() for one, other in zip(first.trie[:8], again.trie[:8], strict=True))
    monkeypatch.setattr(ngram, "CHUNK", chunk)
    rows = np.array([[0, 1, 500]])
    chunked = fitted(ids, 4, 9).log_probs(ids.astype(np.uint16), rows)
    np.testing.assert_allclose(chunked, first.log_probs(ids.astype(np.uint16), rows), rtol=1e-12)


def test_only_the_end_of_a_very_long_text_is_used():
    ids = np.random.default_rng(0).integers(1, 9, 500)
    model = fitted(ids, 3, 9, most_chars=200)
    assert not model.complete
    assert model.trie.text.tolist() == ids[300:].tolist()
    halved = fitted(np.tile(ids, 2), 6, 9, most_nodes=500)
    assert len(halved.trie.counts) <= 500
    assert halved.trie.text.tolist() == ids[-len(halved.trie.text) :].tolist()
    assert fitted(ids, 3, 9).complete

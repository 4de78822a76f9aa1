from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.dataset import counting
from pipeline.dataset.dictionary import Dictionary
from pipeline.dataset.kernels import substrings
from pipeline.dataset.leakage import LENGTH, overlap

STREAM, DOCUMENTS = Dictionary.of("abcdefgh"), Dictionary.of("abcdefgh", bounded=True)
RANDOM = np.random.default_rng(1)


def random_ids(count, most=8, dtype=np.uint8):
    return RANDOM.integers(1, most + 1, count).astype(dtype)


def naive(text, other, length, step=1, ends=()):
    """The share by sets of tuples."""
    here = [tuple(text[at : at + length]) for at in range(0, len(text) - length + 1, step)]
    there = {tuple(other[at : at + length]) for at in range(len(other) - length + 1)}
    here = [one for one in here if not set(one) & set(ends)]
    return sum(one in there for one in here) / len(here) if here else 0.0


# Few different ids, so that there are copies; 1 and 2 are the begin and end symbols, where there are any.
texts = st.lists(st.integers(1, 4), min_size=0, max_size=60)


@given(texts, texts, st.integers(1, 6), st.integers(1, 25), st.integers(1, 60), st.booleans())
@example([3, 4] * 20, [4, 3] * 20, 5, 1, 60, True)
def test_the_share_is_that_of_a_naive_set_of_substrings(text, other, length, chunk, most, bounded):
    dictionary = DOCUMENTS if bounded else STREAM
    ends = (dictionary.begin, dictionary.end) if bounded else ()
    step = -(-max(len(text), 1) // most)
    ids, others = np.array(text, dtype=np.uint8), np.array(other, dtype=np.uint8)
    with patch.object(counting, "CHUNK", chunk):
        found = overlap(ids, others, dictionary, length=length, most=most)
    assert found == pytest.approx(naive(text, other, length, step, ends))


@pytest.mark.parametrize("chunk", [1, 7, 49, 50, 51, 64, 1000])
def test_a_copy_over_chunks_borders_is_found(monkeypatch, chunk):
    monkeypatch.setattr(counting, "CHUNK", chunk)
    text, other = random_ids(300), random_ids(500)
    assert overlap(text, other, STREAM) == 0
    other[120 : 120 + 70] = text[100:170]
    found = overlap(text, other, STREAM)
    assert found >= 21 / 251
    assert found == pytest.approx(naive(text, other, LENGTH))


def test_blocks_of_the_kernel_are_as_one():
    text = random_ids(3 * substrings.BLOCK)
    assert overlap(text, text, STREAM) == 1.0
    assert overlap(text[substrings.BLOCK - 60 : substrings.BLOCK + 60], text, STREAM) == 1.0


def test_a_copy_is_one_of_fifty_characters():
    text = random_ids(LENGTH)
    assert overlap(text, np.concatenate([text[:-1], [9 - text[-1]]]).astype(np.uint8), STREAM) == 0
    assert overlap(text, np.concatenate([random_ids(9), text, random_ids(9)]), STREAM) == 1.0


def test_a_text_shorter_than_a_substring_overlaps_nothing():
    text = random_ids(LENGTH - 1)
    assert overlap(text, text, STREAM) == 0
    assert overlap(text[:0], text, STREAM) == 0
    assert overlap(random_ids(100), text[:0], STREAM) == 0


def test_what_stands_often_counts_as_often():
    phrase = random_ids(LENGTH)
    text = np.concatenate([*[[one, *phrase] for one in (1, 2, 3)], random_ids(400)]).astype(np.uint8)
    assert overlap(text, phrase, STREAM) == pytest.approx(3 / (len(text) - LENGTH + 1))


def test_no_substring_goes_over_a_documents_end():
    begin, end = DOCUMENTS.begin, DOCUMENTS.end
    first, second = random_ids(40) + 2, random_ids(40) + 2
    text = np.array([begin, *first, end, begin, *second, end], dtype=np.uint8)
    assert overlap(text, text, DOCUMENTS) == 0
    assert overlap(text, text, DOCUMENTS, length=40) == 1.0
    assert overlap(text, text, STREAM) == 1.0


def test_a_large_text_is_sampled_and_its_long_copies_are_found():
    text, other = random_ids(20_000), random_ids(20_000)
    other[5000:6000] = text[3000:4000]
    most = 20_000 // LENGTH  # every fiftieth substring
    assert overlap(text, other, STREAM, most=most) == pytest.approx(naive(text, other, LENGTH, step=LENGTH))
    assert overlap(text, other, STREAM) == pytest.approx(naive(text, other, LENGTH))
    for at in range(0, 300, 7):
        other = random_ids(300)
        other[100 : 100 + 2 * LENGTH - 1] = text[at : at + 2 * LENGTH - 1]
        assert overlap(text, other, STREAM, most=most) > 0, at


def test_larger_alphabets_are_compared_too():
    text = random_ids(300, most=60_000, dtype=np.uint16)
    other = text.copy()
    other[150] = 60_001
    assert overlap(text, other, STREAM) == pytest.approx(201 / 251)

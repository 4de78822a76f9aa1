import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dataset import arrays as counting
from pipeline.dataset.dictionary import Dictionary
from pipeline.validation.comparisons import overlap, overlaps

PLAIN, BOUNDED = Dictionary.of("abcdef"), Dictionary.of("abcdef", bounded=True)
RANDOM = np.random.default_rng(1)


def ids(*values):
    return np.array(values, dtype=np.uint8)


def random_ids(count):
    return RANDOM.integers(3, 9, count).astype(np.uint8)


def one_by_one(text, other, dictionary, length):
    def substrings(array):
        own = [bytes(array[at : at + length]) for at in range(len(array) - length + 1)]
        return [one for one in own if not dictionary.bounded or not {1, 2} & set(one)]

    known = set(substrings(other))
    found = [one in known for one in substrings(text)]
    return sum(found) / len(found) if found else 0.0


@given(
    st.lists(st.integers(1, 4), max_size=40),
    st.lists(st.integers(1, 4), max_size=80),
    st.integers(1, 6),
    st.sampled_from([PLAIN, BOUNDED]),
    st.integers(5, 100),
)
def test_it_is_the_share_of_substrings_that_stand_in_the_other_text(text, other, length, dictionary, chunk):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting, "CHUNK", chunk)
        found = overlap(ids(*text), ids(*other), dictionary, length=length)
    assert found == pytest.approx(one_by_one(ids(*text), ids(*other), dictionary, length))


def test_a_copy_is_seen_wherever_it_stands():
    train, text = random_ids(5000), random_ids(1000)
    assert overlap(text, train, PLAIN) == 0.0
    assert overlap(train[1234:2000], train, PLAIN) == 1.0
    text[300:400] = train[77:177]
    assert overlap(text, train, PLAIN) == pytest.approx(51 / 951)
    assert overlap(text[:49], text, PLAIN) == 0.0


def test_of_a_long_text_evenly_spaced_substrings_are_looked_for(monkeypatch):
    monkeypatch.setattr(counting, "CHUNK", 700)
    train, text = random_ids(5000), random_ids(4000)
    text[1000:2000] = train[:1000]
    for most in (4000, 1000, 333, 50):
        assert overlap(text, train, PLAIN, most=most) == pytest.approx(951 / 3951, abs=0.02)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_ids_of_any_width_are_compared(dtype):
    train = random_ids(500).astype(dtype)
    assert overlap(train[100:200], train, PLAIN) == 1.0


@given(st.lists(st.lists(st.integers(1, 4), max_size=20), max_size=5), st.lists(st.integers(1, 4), max_size=80))
def test_several_texts_are_measured_at_once_as_each_alone(texts, other):
    arrays = [ids(*text) for text in texts]
    alone = [overlap(text, ids(*other), BOUNDED, length=3) for text in arrays]
    assert overlaps(arrays, ids(*other), BOUNDED, length=3) == alone

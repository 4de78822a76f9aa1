from collections import Counter
from math import log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dataset.drift import Drift, divergence, drift


def naive(before, after):
    """Entropy of the mean less the mean of the entropies."""

    def entropy(shares):
        return -sum(share * log2(share) for share in shares if share)

    p = {char: before[char] / before.total() for char in before | after}
    q = {char: after[char] / after.total() for char in before | after}
    return entropy([(p[char] + q[char]) / 2 for char in p]) - (entropy(p.values()) + entropy(q.values())) / 2


@given(st.text("abcdef", min_size=1), st.text("abcdefghi", min_size=1))
def test_the_divergence_is_that_of_jensen_and_shannon(before, after):
    found = divergence(Counter(before), Counter(after))
    assert found == pytest.approx(naive(Counter(before), Counter(after)), abs=1e-12)
    assert found == pytest.approx(divergence(Counter(after), Counter(before)), abs=1e-12)


def test_equal_frequencies_are_0_bits_and_disjoint_ones_1():
    assert divergence({"a": 1, "b": 2}, {"a": 500, "b": 1000, "c": 0}) == 0
    assert divergence({"a": 3, "b": 3}, {"c": 5}) == 1
    assert divergence({"a": 1}, {"a": 1, "b": 1}) == pytest.approx(0.311278, abs=1e-6)


@pytest.mark.parametrize(("before", "after"), [({}, {}), ({"a": 1}, {}), ({}, {"a": 1}), ({"a": 0}, {"a": 1})])
def test_an_empty_text_has_no_divergence(before, after):
    assert divergence(before, after) == 0


def test_new_characters_are_those_that_only_the_later_text_has():
    found = drift({"a": 90, "b": 0, "z": 3}, {"a": 80, "b": 5, "c": 10, "d": 5, "e": 0})
    assert found.new == ("c", "b", "d")
    assert found.share == pytest.approx(0.2)


def test_what_is_worth_a_warning():
    assert not Drift((), 0.0, 0.01).over(0.01)
    assert Drift((), 0.0, 0.011).over(0.01)
    assert Drift(("é",), 0.001, 0.0).over(1.0)


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (Drift((), 0.0, 0.01234), "Jensen-Shannon divergence 0.0123 bits"),
        (Drift(("é",), 0.005, 0.1), "1 new character ('é'; 0.5 % of the text), Jensen-Shannon divergence 0.1 bits"),
        (Drift(("\n", "'"), 0.25, 0.1),
         "2 new characters ('\\n', \"'\"; 25 % of the text), Jensen-Shannon divergence 0.1 bits"),
        (Drift(tuple("abcdef"), 1.0, 1.0),
         "6 new characters ('a', 'b', 'c', 'd', 'e', …; 100 % of the text), Jensen-Shannon divergence 1 bits"),
    ],
)  # fmt: skip
def test_a_drift_in_words(found, line):
    assert found.told() == line

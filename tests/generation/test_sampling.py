"""Sampling options against a reference in plain Python, and the random numbers behind them."""

import math

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import UserError
from pipeline.generation import drawing
from pipeline.generation.engine import rule_of
from pipeline.params.sampling import Sampling

# Multiples of a quarter, so that different logits stay different in float32.
LOGITS = st.lists(st.integers(-60, 60).map(lambda n: n / 4), min_size=3, max_size=90)


@numba.njit
def compiled_choose(logits, allowed, bias, counts, recent, rule, number):
    scratch = np.empty((2, len(logits)), dtype=np.float32)
    keys = np.empty(len(logits), dtype=np.int64)
    return drawing.choose(logits, allowed, bias, counts, recent, rule, number, scratch, keys)


@numba.njit
def uniform_at(seed, position):
    return drawing.uniform(np.uint64(seed), position)


def choose(logits, sampling, *, allowed=None, bias=None, counts=None, recent=(), number=0.0):
    array = np.array(logits, dtype=np.float32)
    allowed = np.ones(len(array), dtype=np.bool_) if allowed is None else np.array(allowed)
    bias = np.zeros(len(array), dtype=np.float32) if bias is None else np.array(bias, dtype=np.float32)
    counts = np.zeros(len(array), dtype=np.int32) if counts is None else np.array(counts, dtype=np.int32)
    recent = np.array(recent, dtype=np.int32)
    return compiled_choose(array, allowed, bias, counts, recent, rule_of(sampling)[0], number)


def adjusted(logits, sampling, recent, bias, counts):
    """Apply steps 2 and 3 of the rule to the logits: penalties and biases."""
    if sampling.repetition_penalty != 1:
        for i in set(recent[len(recent) - min(len(recent), sampling.repetition_window) :]) - {-1}:
            penalty = float(np.float32(sampling.repetition_penalty))
            logits[i] = logits[i] / penalty if logits[i] > 0 else logits[i] * penalty
    for i, count in enumerate(counts):
        logits[i] += bias[i]
        if count:
            logits[i] -= sampling.frequency_penalty * count + sampling.presence_penalty
    return logits


def reference(logits, sampling, allowed, recent, number, bias, counts):
    """Choose a character by the documented rule, step by step, in plain Python."""
    logits = adjusted(list(logits), sampling, recent, bias, counts)
    ids = [i for i in range(len(logits)) if allowed[i]]
    if sampling.temperature == 0:
        return max(ids, key=lambda i: (logits[i], -i))
    best = max(logits[i] for i in ids)
    weight = {i: math.exp(max(-87.3, (logits[i] - best) / sampling.temperature)) for i in ids}
    ranked = sorted(ids, key=lambda i: (-weight[i], i))
    if sampling.top_k:
        ranked = ranked[: sampling.top_k]
    if sampling.top_p < 1:
        whole, so_far, kept = sum(weight[i] for i in ranked), 0.0, []
        for i in ranked:
            kept.append(i)
            so_far += weight[i]
            if so_far >= sampling.top_p * whole:
                break
        ranked = kept
    kept = sorted(i for i in ranked if weight[i] >= sampling.min_p)
    target, so_far = number * sum(weight[i] for i in kept), 0.0
    for i in kept:
        so_far += weight[i]
        if so_far > target:
            return i
    return kept[-1]


@settings(deadline=None)  # the first call compiles
@given(
    LOGITS,
    st.data(),
    st.sampled_from([0.0, 0.01, 0.5, 1.0, 3.0]),
    st.sampled_from([0.05, 0.3, 0.9, 0.999, 1.0]),
    st.sampled_from([0.0, 0.01, 0.3, 1.0]),
    st.sampled_from([1.0, 1.3, 0.7]),
    st.sampled_from([(0.0, 0.0), (0.5, 0.0), (0.0, 1.25), (-2.0, 2.0)]),
    st.floats(0, 1, exclude_max=True),
)
def test_sampling_agrees_with_the_reference(logits, data, temperature, top_p, min_p, penalty, penalties, number):
    allowed = [False, *data.draw(st.lists(st.booleans(), min_size=len(logits) - 2, max_size=len(logits) - 2)), True]
    recent = data.draw(st.lists(st.integers(-1, len(logits) - 1), max_size=12))
    window = data.draw(st.integers(0, 14))
    per_id = {"min_size": len(logits), "max_size": len(logits)}
    bias = data.draw(st.lists(st.sampled_from([0.0, 0.0, 0.25, -3.5, 100.0]), **per_id))
    counts = data.draw(st.lists(st.sampled_from([0, 0, 1, 7]), **per_id))
    options = {
        "temperature": temperature,
        "top_k": data.draw(st.integers(0, len(logits) + 2)),
        "min_p": min_p,
        "repetition_penalty": penalty,
        "repetition_window": window,
        "frequency_penalty": penalties[0],
        "presence_penalty": penalties[1],
    }
    ids = {"allowed": allowed, "bias": bias, "counts": counts, "recent": recent}
    found = choose(logits, Sampling(top_p=top_p, **options), number=number, **ids)
    expected = reference(logits, Sampling(top_p=top_p, **options), number=number, **ids)
    if found != expected:  # rounding in float32 may decide otherwise where values are nearly equal
        nudged = {
            reference(logits, Sampling(top_p=min(1, top_p + p), **options | {"min_p": min_p * m}), number=u, **ids)
            for u in (number, max(0, number - 1e-5), min(1, number + 1e-5))
            for p in (-1e-6, 0, 1e-6)
            for m in (1, 0.99999)
        }
        assert found in nudged


def test_characters_are_drawn_as_often_as_their_probabilities():
    logits = np.log([0.5, 0.2, 0.3])
    drawn = [choose(logits, Sampling(), number=uniform_at(3, at)) for at in range(20_000)]
    assert np.bincount(drawn) / len(drawn) == pytest.approx([0.5, 0.2, 0.3], abs=0.015)


def test_excluded_characters_are_never_chosen():
    logits, allowed = [50.0, 40.0, 1.0, 0.0], [False, False, True, True]
    assert choose(logits, Sampling(temperature=0), allowed=allowed) == 2
    assert {choose(logits, Sampling(), allowed=allowed, number=u) for u in np.linspace(0, 0.999, 50)} == {2, 3}


@pytest.mark.parametrize("temperature", [1e-3, 1e-30, 1e-300, 5e-324])
def test_a_tiny_temperature_is_nearly_greedy(temperature):
    assert choose([1.0, 1.1, 1.1], Sampling(temperature=temperature), number=0.1) == 1
    assert choose([1.0, 1.1, 1.1], Sampling(temperature=temperature), number=0.9) == 2  # equals have equal chances


def test_top_p_with_equal_logits_keeps_the_lowest_ids():
    logits = np.zeros(300)
    drawn = {choose(logits, Sampling(top_p=0.5), number=u) for u in np.linspace(0, 0.9999, 2000)}
    assert drawn == set(range(150))


def test_a_repetition_penalty_applies_only_within_its_window():
    logits = [2.0, 1.9, 0.0]
    for window, expected in ((2, 1), (1, 0), (0, 0)):
        sampling = Sampling(temperature=0, repetition_penalty=1.2, repetition_window=window)
        assert choose(logits, sampling, recent=[0, 2]) == expected


def test_frequency_and_presence_penalties_use_the_completions_counts():
    logits = [2.0, 1.5, 0.0]
    for options, counts, expected in (
        ({"frequency_penalty": 0.2}, [2, 0, 0], 0),
        ({"frequency_penalty": 0.2}, [3, 0, 0], 1),
        ({"presence_penalty": 0.6}, [1, 0, 0], 1),
        ({"presence_penalty": 0.6}, [0, 1, 0], 0),
        ({"presence_penalty": -0.6}, [0, 1, 0], 1),
    ):
        assert choose(logits, Sampling(temperature=0, **options), counts=counts) == expected


def test_uniform_at_is_uniform_and_depends_only_on_seed_and_position():
    drawn = np.array([uniform_at(7, at) for at in range(20_000)])
    assert ((drawn >= 0) & (drawn < 1)).all()
    assert np.histogram(drawn, 10, (0, 1))[0] == pytest.approx([2000] * 10, rel=0.1)
    assert uniform_at(7, 123) == drawn[123]
    assert uniform_at(8, 123) != drawn[123]


def test_uniform_at_is_splitmix64():
    # The first outputs for state 1234567, from the algorithm's reference implementation.
    assert [int(uniform_at(1234567, at) * 2**53) for at in range(2)] == [
        6457827717110365317 >> 11,
        3203168211198807973 >> 11,
    ]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_new_chars", -1),
        ("max_new_chars", 100_001),
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.5),
        ("top_p", float("nan")),
        ("min_p", -0.1),
        ("min_p", 1.1),
        ("repetition_penalty", 0.0),
        ("repetition_window", 1001),
        ("frequency_penalty", 2.1),
        ("presence_penalty", -2.1),
        ("presence_penalty", float("nan")),
        ("logit_bias", (("a", 100.5),)),
        ("allowed", ""),
        ("seed", -1),
        ("stop", ("",)),
        ("stop", ("x",) * 17),
    ],
)
def test_an_option_out_of_range_is_named_in_the_error(option, value):
    with pytest.raises(UserError, match=f"^{option}: found"):
        Sampling(**{option: value})


OPTIONS = [{"temperature": 0}, {}, {"top_k": 2}, {"top_p": 0.5}, {"top_k": 3, "top_p": 0.1, "min_p": 0.2}]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("logits", [[math.nan] * 5, [-math.inf] * 5, [math.inf, math.nan, -math.inf, 1.0, 2.0]])
@pytest.mark.parametrize("penalties", [{}, {"repetition_penalty": 1.5, "presence_penalty": 0.5}])
def test_logits_that_are_no_numbers_choose_an_allowed_character(options, logits, penalties):
    sampling = Sampling(**options, **penalties)
    for number in (0.0, 0.5, 1 - 2**-53):
        found = choose(logits, sampling, allowed=[False, True, False, True, True], recent=[1], number=number)
        assert found in {1, 3, 4}

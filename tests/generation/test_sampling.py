import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.generation.sampling import Sampling, choose, uniform_at

LOGITS = st.lists(st.floats(-20, 20, width=32), min_size=3, max_size=12)


def reference(logits, sampling, first_id, uniform):
    """The documented rule, step by step, in plain Python."""
    ids = list(range(first_id, len(logits)))
    if sampling.temperature == 0:
        return max(ids, key=lambda i: (logits[i], -i))
    best = max(float(logits[i]) for i in ids)
    weight = {i: float(np.exp((float(logits[i]) - best) / sampling.temperature)) for i in ids}
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
    target, so_far = uniform * sum(weight[i] for i in sorted(ranked)), 0.0
    for i in sorted(ranked):
        so_far += weight[i]
        if so_far > target:
            return i
    return max(i for i in ranked if weight[i] > 0)


@given(
    LOGITS,
    st.integers(0, 2),
    st.sampled_from([0.0, 0.01, 0.5, 1.0, 3.0]),
    st.integers(0, 14),
    st.sampled_from([0.05, 0.3, 0.9, 0.999, 1.0]),
    st.floats(0, 1, exclude_max=True),
)
def test_the_rule_is_the_documented_one(logits, first_id, temperature, top_k, top_p, uniform):
    array = np.array(logits, dtype=np.float32)
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    found = choose(array, sampling, first_id=first_id, uniform=uniform)
    expected = reference(array, sampling, first_id, uniform)
    if found != expected:  # sums in another order may part ways at a border between two characters
        nudged = {reference(array, sampling, first_id, min(max(uniform + e, 0), 1)) for e in (-1e-12, 1e-12)}
        assert found in nudged


def test_frequencies_are_the_distribution():
    logits = np.log(np.array([0.5, 0.2, 0.3], dtype=np.float32))
    drawn = [choose(logits, Sampling(), first_id=0, uniform=uniform_at(3, at)) for at in range(20_000)]
    assert np.bincount(drawn) / len(drawn) == pytest.approx([0.5, 0.2, 0.3], abs=0.015)


def test_symbols_that_are_no_character_are_never_chosen():
    logits = np.array([50.0, 40.0, 1.0, 0.0], dtype=np.float32)
    assert choose(logits, Sampling(temperature=0), first_id=2, uniform=0.0) == 2
    assert {choose(logits, Sampling(), first_id=2, uniform=u) for u in np.linspace(0, 0.999, 50)} == {2, 3}


def test_a_tiny_temperature_is_nearly_greedy():
    assert choose(np.array([1.0, 1.1], dtype=np.float32), Sampling(temperature=1e-300), first_id=0, uniform=0.99) == 1


def test_uniform_at_is_uniform_and_independent_of_history():
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
        ("seed", -1),
        ("stop", ("",)),
        ("stop", ("x",) * 17),
    ],
)
def test_out_of_range_names_the_option(option, value):
    with pytest.raises(UserError, match=f"^{option}: found"):
        Sampling(**{option: value})

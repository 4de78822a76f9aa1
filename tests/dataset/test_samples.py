import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dataset.samples import cut_windows


def test_the_tutorials_windows():
    samples = cut_windows(1_069_397, (100,))[100]
    assert (samples[:, 1] == 100).sum() == 10_693  # as many as the tutorial has
    assert samples[-1].tolist() == [1_069_300, 96]  # and what it leaves out, padded


def test_buckets_take_turns():
    samples = cut_windows(31, (4, 8))
    assert samples[4].tolist() == [[0, 4], [12, 4]]
    assert samples[8].tolist() == [[4, 8], [16, 8], [24, 6]]


@given(st.integers(0, 2000), st.sets(st.integers(2, 90), min_size=1, max_size=4))
def test_every_character_but_the_first_is_the_label_of_one_position(num_ids, lengths):
    buckets = tuple(sorted(lengths))
    labelled = np.zeros(num_ids + 1, dtype=int)
    for bucket, samples in cut_windows(num_ids, buckets).items():
        assert (samples[:, 1] <= bucket).all()
        for start, length in samples:
            labelled[start + 1 : start + length + 1] += 1
    assert (labelled[1:num_ids] == 1).all()
    assert labelled[0] == labelled[num_ids] == 0

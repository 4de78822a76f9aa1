import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dataset.arrays import Table, chunks_of_samples, cut_documents, cut_windows, num_positions
from pipeline.dataset.build_splits import LONGEST, MOST_PADDING, choose_buckets, lengths_of_samples

BUCKETS = st.sets(st.integers(2, 90), min_size=1, max_size=4).map(lambda lengths: tuple(sorted(lengths)))


def rows(samples):
    return np.concatenate([np.empty((0, 2), np.int64), *chunks_of_samples(samples, 7)])


def test_the_windows_of_the_tutorial():
    samples = cut_windows(1_069_397, (100,))[100]
    assert samples.rounds == 10_693  # the same number as in the tutorial
    assert samples.rows(np.array([len(samples) - 1])).tolist() == [
        [1_069_300, 96]
    ]  # which the tutorial omits; padded here


def test_windows_take_the_lengths_of_buckets_in_turn():
    samples = cut_windows(31, (4, 8))
    assert rows(samples[4]).tolist() == [[0, 4], [12, 4]]
    assert rows(samples[8]).tolist() == [[4, 8], [16, 8], [24, 6]]


@given(st.integers(0, 2000), BUCKETS)
def test_every_character_but_the_first_is_the_label_of_one_position(num_ids, buckets):
    labelled = np.zeros(num_ids + 1, dtype=int)
    for bucket, samples in cut_windows(num_ids, buckets).items():
        own = rows(samples)
        assert (own[:, 1] <= bucket).all()
        assert num_positions(samples) == own[:, 1].sum()
        for start, length in own:
            labelled[start + 1 : start + length + 1] += 1
    assert (labelled[1:num_ids] == 1).all()
    assert labelled[0] == labelled[num_ids] == 0


def test_a_document_is_one_sample_and_a_long_one_is_cut():
    samples = cut_documents(np.array([0, 4, 20]), np.array([3, 19, 21]), (3, 6))
    assert samples[3].tolist() == [[0, 3], [16, 3], [20, 1]]
    assert samples[6].tolist() == [[4, 6], [10, 6]]


@given(st.lists(st.integers(0, 200)), BUCKETS)
def test_characters_and_ends_of_documents_are_labels_once_and_begins_never(lengths, buckets):
    sizes = np.array(lengths, dtype=np.int64) + 2
    starts = np.cumsum(sizes) - sizes
    labelled = np.zeros(int(sizes.sum()), dtype=int)
    for bucket, own in cut_documents(starts, starts + sizes - 1, buckets).items():
        assert (own[:, 1] <= bucket).all()
        assert (np.diff(own[:, 0]) > 0).all()
        assert num_positions(Table(own)) == own[:, 1].sum()
        for start, length in own:
            assert start in starts or start - starts[np.searchsorted(starts, start) - 1] >= buckets[-1]
            labelled[start + 1 : start + length + 1] += 1
    expected = np.ones_like(labelled)
    expected[starts] = 0
    assert labelled.tolist() == expected.tolist()


def padding(counts, buckets):
    lengths = np.repeat(np.arange(len(counts)), counts)
    held = np.array(buckets)[np.searchsorted(buckets, lengths)]
    return (held.sum() - lengths.sum()) / held.sum()  # not 1 - …: exactly 5 % would be more


@given(st.lists(st.integers(1, 600), min_size=1, max_size=60))
def test_chosen_buckets_fit_all_samples_with_little_padding(positions):
    counts = lengths_of_samples(np.array(positions))
    assert counts @ np.arange(len(counts)) == sum(positions)
    buckets = choose_buckets(counts)
    assert list(buckets) == sorted(set(buckets))
    assert max(2, min(max(positions), LONGEST)) == buckets[-1]
    # A bucket has at least two positions, so documents of one position are padded in any case.
    counts[2], counts[1] = counts[2] + counts[1], 0
    assert padding(counts, buckets) <= MOST_PADDING
    for at in range(len(buckets) - 1):
        assert padding(counts, buckets[:at] + buckets[at + 1 :]) > MOST_PADDING


@pytest.mark.parametrize(("positions", "expected"), [([10] * 9, (10,)), ([10] * 9 + [100], (10, 100)), ([1], (2,))])
def test_the_fewest_buckets_are_chosen(positions, expected):
    assert choose_buckets(lengths_of_samples(np.array(positions))) == expected

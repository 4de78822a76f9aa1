import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dataset import arrays as counting
from pipeline.dataset.arrays import Table, cut_documents, cut_windows
from pipeline.dataset.dictionary import Dictionary
from pipeline.dataset.splits import Split
from pipeline.validation import coverage as stretches
from pipeline.validation.coverage import cover

PLAIN, BOUNDED = Dictionary.of("abcdef"), Dictionary.of("abcdef", bounded=True)
RANDOM = np.random.default_rng(1)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr(counting, "CHUNK", 40)
    monkeypatch.setattr(stretches, "READ", 3)


def split_of(num_ids, buckets=(10,), **tables):
    ids = RANDOM.integers(1, 7, num_ids).astype(np.uint8)
    return Split(ids, cut_windows(num_ids, buckets) | {int(name): Table(rows) for name, rows in tables.items()})


def documents_of(lengths, buckets=(5, 12)):
    """Documents of the given lengths, each between symbols 1 and 2."""
    ids = np.concatenate([[BOUNDED.begin, *RANDOM.integers(3, 9, n), BOUNDED.end] for n in lengths]).astype(np.uint8)
    starts = np.cumsum([0, *(n + 2 for n in lengths[:-1])])
    rows = cut_documents(starts, starts + np.array(lengths) + 1, buckets)
    return Split(ids, {bucket: Table(own) for bucket, own in rows.items()}, starts)


def figures(covered):
    return covered.unlabelled, covered.repeated, covered.labelled_begins, covered.unbounded


@pytest.mark.parametrize("num_ids", [2, 40, 41, 79, 80, 81, 333])
@pytest.mark.parametrize("buckets", [(10,), (3, 7), (39,)])
def test_windows_cover_a_stream(num_ids, buckets):
    covered = cover(split_of(num_ids, buckets), PLAIN)
    assert figures(covered) == (0, 0, 0, 0)
    assert covered.misplaced_labels == dict.fromkeys(buckets, 0)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=30))
def test_documents_are_covered(lengths):
    covered = cover(documents_of(lengths), BOUNDED)
    assert figures(covered) == (0, 0, 0, 0)
    assert not any(covered.misplaced_labels.values())


@given(st.lists(st.tuples(st.integers(0, 85), st.integers(1, 10)), max_size=30))
def test_gaps_and_repeats_are_counted_as_one_by_one(samples):
    rows = np.array(sorted(samples), dtype=np.int64).reshape(-1, 2)
    times = np.zeros(96, dtype=int)
    for start, length in rows:
        times[start + 1 : start + length + 1] += 1
    split = Split(np.ones(96, dtype=np.uint8), {10: Table(rows)})
    covered = cover(split, PLAIN)
    assert covered.unlabelled == (times[1:] == 0).sum()
    assert covered.repeated == np.maximum(times[1:] - 1, 0).sum()


def test_samples_out_of_range_cover_nothing():
    rows = np.array([[0, 10], [10, 11], [90, 10], [-3, 5]])
    covered = cover(Split(np.ones(95, dtype=np.uint8), {10: Table(rows)}), PLAIN)
    assert figures(covered) == (84, 0, 0, 0)


def test_symbols_that_do_not_bound_are_counted():
    split = documents_of([3, 4, 40, 2])
    swapped = split.ids.copy()
    swapped[4] = 5  # an end
    assert cover(Split(swapped, split.buckets, split.documents), BOUNDED).unbounded > 0
    inside = split.ids.copy()
    inside[14] = BOUNDED.begin
    covered = cover(Split(inside, split.buckets, split.documents), BOUNDED)
    assert covered.unbounded > 0
    assert covered.labelled_begins == 1
    assert cover(Split(split.ids, split.buckets, split.documents[:-1]), BOUNDED).unbounded > 0
    assert cover(Split(split.ids[:-1], split.buckets, split.documents), BOUNDED).unbounded > 0


def test_a_memory_map_is_read_the_same(tmp_path):
    split = documents_of([3, 4, 40, 2] * 9)
    for name, array in {"ids": split.ids, "documents": split.documents}.items():
        np.save(tmp_path / f"{name}.npy", array)
    for bucket, table in split.buckets.items():
        np.save(tmp_path / f"{bucket}.npy", table.array)
    mapped = Split(
        np.load(tmp_path / "ids.npy", mmap_mode="r"),
        {bucket: Table(np.load(tmp_path / f"{bucket}.npy", mmap_mode="r")) for bucket in split.buckets},
        np.load(tmp_path / "documents.npy", mmap_mode="r"),
    )
    assert cover(mapped, BOUNDED) == cover(split, BOUNDED)

import numpy as np
import pytest

from pipeline.dataset.arrays import Table, cut_documents, cut_windows
from pipeline.dataset.splits import Split, batches_per_epoch, epoch_batches, gather

IDS = np.arange(1, 238, dtype=np.uint8)
SPLIT = Split(ids=IDS, buckets=cut_windows(len(IDS), (7, 20)))


def epoch(seed=1, number=0, batch_size=4):
    return list(epoch_batches(SPLIT, batch_size, seed=seed, epoch=number))


def test_gather_pads_inputs_and_labels():
    batch = gather(IDS, np.array([[0, 3], [234, 2]]), 4)
    assert batch.inputs.tolist() == [[1, 2, 3, 0], [235, 236, 0, 0]]
    assert batch.labels.tolist() == [[2, 3, 4, 0], [236, 237, 0, 0]]
    assert batch.num_positions == 5


@pytest.mark.parametrize("batch_size", [1, 3, 4, 1000])
def test_every_character_is_predicted_once_in_an_epoch(batch_size):
    labels = np.concatenate([batch.labels.ravel() for batch in epoch(batch_size=batch_size)])
    assert sorted(labels[labels != 0].tolist()) == IDS[1:].tolist()


def test_labels_are_the_inputs_one_position_later():
    for batch in epoch():
        counted = batch.labels != 0
        assert (batch.labels[counted] == batch.inputs[counted] + 1).all()


def test_a_batch_is_of_one_bucket_and_the_number_of_batches_is_known():
    batches = epoch()
    assert {batch.inputs.shape[1] for batch in batches} == {7, 20}
    assert len(batches) == batches_per_epoch(SPLIT, 4)


def test_the_order_depends_on_seed_and_epoch_alone():
    def order(**which):
        return [batch.inputs.tolist() for batch in epoch(**which)]

    assert order() == order()
    assert order() != order(number=1)
    assert order() != order(seed=2)


def test_a_large_split_is_shuffled_in_groups_without_losing_samples(monkeypatch):
    monkeypatch.setattr("pipeline.dataset.splits.SHUFFLED_AT_ONCE", 4)
    batches = epoch(batch_size=2)
    assert len(batches) == batches_per_epoch(SPLIT, 2)
    labels = np.concatenate([batch.labels.ravel() for batch in batches])
    assert sorted(labels[labels != 0].tolist()) == IDS[1:].tolist()
    # A group has samples from all of the text.
    first = [int(row[0]) for batch in batches[:2] for row in batch.inputs]
    assert max(first) - min(first) > len(IDS) / 3
    for skip in (1, 3, 5, len(batches)):
        rest = list(epoch_batches(SPLIT, 2, seed=1, epoch=0, skip=skip))
        assert [batch.inputs.tolist() for batch in rest] == [batch.inputs.tolist() for batch in batches[skip:]]


def test_documents_are_padded_and_never_shifted():
    ids = np.array([1, 9, 9, 2, 1, 2, 1, *[9] * 8, 2], dtype=np.uint8)  # between 1 and 2
    starts = np.array([0, 4, 6])
    tables = cut_documents(starts, np.array([3, 5, 15]), (4, 6))
    split = Split(ids, {length: Table(rows) for length, rows in tables.items()}, starts)
    for number in range(5):
        batches = list(epoch_batches(split, 2, seed=1, epoch=number, shift=True))
        assert sorted(int(label) for batch in batches for label in batch.labels.ravel() if label) == [2] * 3 + [9] * 10
        assert sorted(int(row[0]) for batch in batches for row in batch.inputs) == [1, 1, 1, 9]


def test_shifted_windows_begin_at_different_places_in_each_epoch():
    ids = np.arange(1, 102, dtype=np.uint8)
    split = Split(ids, cut_windows(len(ids), (10,)))

    def starts(epoch, *, shift):
        batches = list(epoch_batches(split, 4, seed=1, epoch=epoch, shift=shift))
        for batch in batches:
            assert (batch.labels == batch.inputs + 1).all()  # none is padded or extends beyond the end
        return sorted(int(row[0]) - 1 for batch in batches for row in batch.inputs)

    assert starts(0, shift=False) == list(range(0, 100, 10))
    for epoch in range(5):
        shifted = starts(epoch, shift=True)
        later = shifted[0]
        assert shifted == [min(start + later, 90) for start in range(0, 100, 10)]
    assert len({starts(epoch, shift=True)[0] for epoch in range(20)}) > 5

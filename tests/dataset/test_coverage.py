from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dataset import counting, coverage, stretches
from pipeline.dataset.batches import Batch, gather
from pipeline.dataset.coverage import Covered, cover
from pipeline.dataset.dictionary import Dictionary
from pipeline.dataset.samples import Table, chunks_of_samples, cut_documents, cut_windows
from pipeline.dataset.splits import Split

STREAM, DOCUMENTS = Dictionary.of("abcdefgh"), Dictionary.of("abcdefgh", bounded=True)
BEGIN, END = DOCUMENTS.begin, DOCUMENTS.end
BUCKETS = (3, 5)


def stream(num_ids, buckets=(10,)):
    ids = np.random.default_rng(1).integers(1, 9, num_ids).astype(np.uint8)
    return Split(ids, cut_windows(num_ids, buckets))


def documents(lengths, buckets=BUCKETS):
    texts = [[BEGIN, *[4] * length, END] for length in lengths]
    ids = np.array([one for text in texts for one in text], dtype=np.uint8)
    starts = np.cumsum([0, *map(len, texts)])[:-1].astype(np.int64)
    split = Split(ids, {}, starts)
    samples = cut_documents(starts, split.ends, buckets)
    return Split(ids, {length: Table(rows) for length, rows in samples.items()}, starts)


def listed(split):
    """The windows of a stream in tables, so that they can be changed."""
    return {length: samples.rows(np.arange(len(samples))) for length, samples in split.buckets.items()}


def tables_of(rows):
    return {length: Table(np.array(own, dtype=np.int64).reshape(-1, 2)) for length, own in rows.items()}


def nothing_wrong(buckets):
    return Covered(misplaced_labels=dict.fromkeys(buckets, 0))


@given(st.integers(2, 60), st.sampled_from([(2,), (3, 5), (2, 7, 8)]), st.integers(8, 20))
def test_a_good_stream_has_nothing_to_complain_about(num_ids, buckets, chunk):
    with patch.object(counting, "CHUNK", chunk):
        assert cover(stream(num_ids, buckets), STREAM) == nothing_wrong(buckets)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=9), st.integers(5, 20))
def test_good_documents_have_nothing_to_complain_about(lengths, chunk):
    with patch.object(counting, "CHUNK", chunk):
        assert cover(documents(lengths), DOCUMENTS) == nothing_wrong(BUCKETS)


def test_a_gap_and_a_repeat_are_counted():
    split = stream(901)
    rows = listed(split)
    rows[10][3] = rows[10][2]
    covered = cover(Split(split.ids, tables_of(rows)), STREAM)
    assert (covered.unlabelled, covered.repeated) == (10, 10)


def test_the_first_id_of_a_stream_is_to_be_no_label_but_the_last_is():
    split = stream(21)
    assert cover(Split(split.ids, tables_of({10: [(0, 10)]})), STREAM).unlabelled == 10
    assert cover(Split(split.ids, tables_of({10: [(10, 10)]})), STREAM).unlabelled == 10


def test_a_sample_that_stands_after_one_of_a_later_stretch_is_as_if_lost():
    split = stream(41)
    rows = listed(split)
    unsorted = Split(split.ids, tables_of({10: rows[10][::-1]}))
    assert cover(unsorted, STREAM).unlabelled == 0  # all in one stretch
    with patch.object(counting, "CHUNK", 20), patch.object(
        stretches, "chunks_of_samples", lambda samples: chunks_of_samples(samples, 1)
    ):  # fmt: skip
        assert cover(unsorted, STREAM).unlabelled == 20


@given(
    st.integers(0, 1),
    st.lists(st.tuples(st.integers(-3, 50), st.integers(-1, 6)), max_size=20),
    st.lists(st.tuples(st.integers(-3, 50), st.integers(-1, 6)), max_size=20),
    st.lists(st.sampled_from([BEGIN, END, 4, 5]), min_size=2, max_size=45),
    st.integers(5, 20),
)
def test_any_samples_are_counted_as_a_naive_count_does(bounded, short, long, ids, chunk):
    text = np.array(ids, dtype=np.uint8)
    dictionary = DOCUMENTS if bounded else STREAM
    rows = {3: sorted(short), 5: sorted(long)}
    begins = [at for at, one in enumerate(ids) if bounded and one == BEGIN]
    times = [0] * len(ids)
    times[0] = int(0 not in begins)  # nothing stands before it
    for bucket, own in rows.items():
        for start, length in own:
            if start >= 0 and 0 < length <= bucket and start + length < len(ids):
                for at in range(start + 1, start + length + 1):
                    times[at] += 1
    with patch.object(counting, "CHUNK", chunk):
        covered = cover(Split(text, tables_of(rows)), dictionary)
    others = [count for at, count in enumerate(times) if at not in begins]
    assert covered.unlabelled == others.count(0)
    assert covered.repeated == sum(count - 1 for count in others if count)
    assert covered.labelled_begins == sum(times[at] > 0 for at in begins)
    assert covered.misplaced_labels == {3: 0, 5: 0}


def changed(split, at, symbol):
    ids = split.ids.copy()
    ids[at] = symbol
    return Split(ids, split.buckets, split.documents)


@pytest.mark.parametrize(
    ("at", "symbol", "wrong"),
    [
        (0, 4, 3),  # the other two begin symbols stand where the first two are listed, and one is left over
        (4, 4, 3),
        (10, BEGIN, 1),
        (10, END, 2),
    ],
)
def test_symbols_that_do_not_stand_at_a_documents_ends_are_counted(at, symbol, wrong):
    split = documents([3, 2, 6])
    assert split.ids.tolist() == [1, 4, 4, 4, 2, 1, 4, 4, 2, 1, 4, 4, 4, 4, 4, 4, 2]
    assert cover(changed(split, at, symbol), DOCUMENTS).unbounded == wrong


@given(st.lists(st.integers(1, 6), min_size=1, max_size=9), st.integers(5, 20), st.data())
def test_any_symbol_out_of_its_place_is_seen(lengths, chunk, data):
    split = documents(lengths)
    at = data.draw(st.integers(0, len(split.ids) - 1))
    symbol = data.draw(st.sampled_from([one for one in (BEGIN, END, 4) if one != split.ids[at]]))
    with patch.object(counting, "CHUNK", chunk):
        assert cover(changed(split, at, symbol), DOCUMENTS).unbounded > 0


def test_documents_that_are_listed_elsewhere_are_counted():
    split = documents([3, 2, 6])
    assert cover(Split(split.ids, split.buckets, split.documents[:-1]), DOCUMENTS).unbounded == 3
    assert cover(Split(split.ids, split.buckets, split.documents + np.array([0, 1, 0])), DOCUMENTS).unbounded == 2
    assert cover(Split(split.ids, split.buckets), DOCUMENTS).unbounded == 6


def test_a_dictionary_without_ends_has_no_documents():
    split = documents([3, 2, 6])
    assert cover(split, STREAM).unbounded == 6


def test_a_sample_over_a_documents_end_labels_a_begin_symbol():
    split = documents([3, 2])
    covered = cover(Split(split.ids, tables_of({3: [], 5: [(0, 5), (5, 3)]}), split.documents), DOCUMENTS)
    assert (covered.labelled_begins, covered.unlabelled, covered.repeated) == (1, 0, 0)


def test_labels_are_those_of_the_batches_that_train(monkeypatch):
    def late(*arguments):
        batch = gather(*arguments)
        return Batch(inputs=batch.inputs, labels=batch.inputs)

    split = Split(np.array([1, 2, 1, 2, 1, 2, 1, 2], dtype=np.uint8), cut_windows(8, (3,)))
    monkeypatch.setattr(coverage, "gather", late)
    assert cover(split, STREAM).misplaced_labels == {3: 7}


def test_padding_is_compared_too(monkeypatch):
    def unmasked(ids, samples, length):
        return gather(ids, np.column_stack([samples[:, 0], np.full(len(samples), length)]), length)

    monkeypatch.setattr(coverage, "gather", unmasked)
    assert cover(stream(12), STREAM).misplaced_labels == {10: 9}

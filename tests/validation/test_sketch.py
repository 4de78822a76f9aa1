import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import UserError
from pipeline.dataset import arrays
from pipeline.dataset.dictionary import Dictionary
from pipeline.validation import comparisons
from pipeline.validation.comparisons import estimated_overlap, load_sketch, overlap, save_sketch, sketch

LETTERS = "abcdefgh"
RANDOM = np.random.default_rng(3)
OWN, OTHER = Dictionary.of(LETTERS), Dictionary.of("xyz" + LETTERS, unknown=True, bounded=True)


def letters(count):
    return "".join(RANDOM.choice(list(LETTERS), count))


def ids(text, dictionary):
    return dictionary.encode(text).astype(np.uint8)


@given(st.integers(60, 400), st.integers(1, 60), st.integers(60, 300))
def test_without_a_limit_it_is_the_overlap(size, at, chunk):
    base = letters(size)
    text = letters(70) + base[at:]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "CHUNK", chunk)
        patch.setattr(comparisons, "BLOCK", chunk // 2)
        found = estimated_overlap(ids(text, OTHER), OTHER, sketch(ids(base, OWN), OWN))
    assert found == pytest.approx(overlap(ids(text, OWN), ids(base, OWN), OWN))


def test_with_a_limit_it_is_about_the_overlap():
    base = letters(100_000)
    known = sketch(ids(base, OWN), OWN, size=20_000)
    assert len(known) == 20_000
    text = letters(10_000) + base[5000:15_000]
    assert estimated_overlap(ids(text, OTHER), OTHER, known, size=20_000) == pytest.approx(0.5, abs=0.03)
    assert estimated_overlap(ids(letters(20_000), OWN), OWN, known, size=20_000) == 0


@given(st.integers(50, 600), st.integers(50, 600), st.integers(1, 800))
def test_a_sketch_of_two_texts_is_that_of_both(one, two, size):
    """What a model has read that started from another one, whose text is no longer here."""
    first, second = letters(one), letters(two)
    known = sketch(ids(second, OWN), OWN, base=sketch(ids(first, OTHER), OTHER, size=size), size=size)
    everything = np.union1d(sketch(ids(first, OWN), OWN), sketch(ids(second, OWN), OWN))
    assert known.tolist() == everything[:size].tolist()


def test_no_substring_crosses_documents():
    whole = letters(80)
    cut = np.concatenate([ids(whole[:40], OTHER), [OTHER.end, OTHER.begin], ids(whole[40:], OTHER)]).astype(np.uint8)
    assert len(sketch(cut, OTHER)) == 0
    assert len(sketch(ids(whole, OTHER), OTHER)) == 31


def test_it_is_saved_as_plain_data(tmp_path):
    path = tmp_path / "substrings.npy"
    assert load_sketch(path) is None
    known = sketch(ids(letters(500), OWN), OWN)
    save_sketch(path, known)
    assert load_sketch(path).tolist() == known.tolist()
    for damaged in (path.read_bytes()[:-3], b"", b"no array"):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"substrings\.npy"):
            load_sketch(path)
    np.save(path, np.array([1, 3]))
    with pytest.raises(UserError, match="allowed is uint64"):
        load_sketch(path)
    np.save(path, np.array([3, 1], dtype=np.uint64))
    with pytest.raises(UserError, match="its hashes do not rise"):
        load_sketch(path)

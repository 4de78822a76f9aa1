"""Figures of generated samples: known words, copied text and repeats."""

import mmap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.dataset import arrays
from pipeline.dataset.dictionary import Dictionary
from pipeline.evaluation import samples
from pipeline.evaluation.samples import COPY_LENGTH, copied_shares, known_words, longest_repeat, words_in, words_of

# Letters of both cases, marks, characters similar to letters, both apostrophes, and separators.
ODD = Dictionary.of(
    "aAbBcéÉß\u0130\u0131\u0391\u03b1\u03a3\u03c3\u03c2жЖ字\u00b2\u06631_'\u2019\u0307 .-\n", unknown=True, bounded=True
)
ODDLY = st.text("".join(ODD.characters), max_size=30)


def stream(documents, dictionary):
    """Return the ids of documents, each between a begin and an end symbol."""
    ids = [one for text in documents for one in (dictionary.begin, *dictionary.encode(text), dictionary.end)]
    return np.array(ids, dtype=dictionary.dtype)


def test_words_are_runs_of_letters_with_inner_apostrophes():
    assert words_of("The dog's 3rd 'Bone', rock'n'roll_x--IT\u2019S") == [
        "the",
        "dog's",
        "rd",
        "bone",
        "rock'n'roll",
        "x",
        "it\u2019s",
    ]
    assert words_of("नमस्ते दुनिया") == ["नमस्ते", "दुनिया"]
    assert words_of("") == []


def test_known_words_ignores_a_last_word_that_may_be_cut_off():
    vocabulary = {"the", "dog's", "bone"}
    assert known_words("the dog's xyzzy bone bon", vocabulary) == 3 / 4
    assert known_words("the dog's xyzzy bone bon", vocabulary, ended=True) == 3 / 5
    assert known_words("the dog's xyzzy bone bon.", vocabulary) == 3 / 5
    assert known_words("", vocabulary) == 1.0


@given(st.lists(ODDLY, max_size=4), st.lists(ODDLY, max_size=4), st.integers(1, 9), st.sampled_from([5, 1 << 20]))
@example(["a'b'c a''b 'a a' a'"], ["a'b", "c a", "b"], 1, 1 << 20)
@example(["ab"], ["abababab ab"], 2, 2)
def test_words_are_found_within_documents_whatever_the_chunks(texts, documents, chunk, longest):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "CHUNK", chunk)
        patch.setattr(samples, "MAX_WORD", max(longest, 30))
        found = words_in(stream(documents, ODD), ODD, texts)
    wanted = {word for text in texts for word in words_of(text)}
    assert found == wanted & {word for text in documents for word in words_of(text)}


def test_a_word_that_is_far_longer_than_a_chunk_takes_bounded_memory(monkeypatch):
    monkeypatch.setattr(arrays, "CHUNK", 100)
    monkeypatch.setattr(samples, "MAX_WORD", 10)
    ids = stream(["ab" * 5000 + " ba", "a"], ODD)
    assert words_in(ids, ODD, ["ab", "ba abab", "a"]) == {"ba", "a"}


def test_unknown_characters_divide_words():
    ids = np.array([ODD.begin, *ODD.encode("aab€baa"), ODD.end], dtype=ODD.dtype)
    assert ODD.encode("€") == [1]
    assert words_in(ids, ODD, ["aabbaa", "aab baa\ufffd"]) == {"aab", "baa"}


def test_copied_is_the_share_of_substrings_in_the_training_text():
    random = np.random.default_rng(0)
    text = "".join(random.choice(list("ab' "), size=10_000))
    dictionary = Dictionary.of("ab' ", bounded=True)
    train = stream([text[:5000], text[5000:]], dictionary)
    copy, new = text[1000:1050], "".join(random.choice(list("ab"), size=60))
    shares = copied_shares([copy, new, new + copy, text[4980:5040], copy[: COPY_LENGTH - 1], ""], train, dictionary)
    assert shares == [1.0, 0.0, 21 / 81, 11 / 31, None, None]


@settings(deadline=None)
@given(st.text("ab", max_size=14))
def test_longest_repeat_is_the_longest_substring_that_occurs_twice(text):
    pairs = [text[i:j] for i in range(len(text)) for j in range(i + 1, len(text) + 1)]
    expected = max((len(one) for one in pairs if pairs.count(one) > 1), default=0)
    assert longest_repeat(text) == expected


def test_a_memory_map_is_read_in_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "CHUNK", 100_003)
    np.save(tmp_path / "ids.npy", np.random.default_rng(0).integers(3, 7, size=1_000_000, dtype=np.uint8))
    ids = np.load(tmp_path / "ids.npy", mmap_mode="r")
    joined = np.concatenate([np.array(chunk) for chunk in arrays.chunks_of(ids)])
    assert joined.tobytes() == ids.tobytes()


@pytest.mark.skipif(not hasattr(mmap, "MADV_DONTNEED"), reason="no madvise here")
def test_reading_a_memory_map_takes_the_memory_of_one_chunk(tmp_path):
    smaps = Path("/proc/self/smaps_rollup")
    if not smaps.exists():
        pytest.skip("no /proc here")

    def resident():
        return int(smaps.read_text().partition("Rss:")[2].split()[0]) * 1024

    np.save(tmp_path / "ids.npy", np.zeros(100_000_000, dtype=np.uint8))
    ids = np.load(tmp_path / "ids.npy", mmap_mode="r")
    before, most = resident(), 0
    for chunk in arrays.chunks_of(ids):
        assert not chunk.any()
        most = max(most, resident())
    assert most - before < 20_000_000

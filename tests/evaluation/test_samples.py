import mmap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.dataset import arrays as counting
from pipeline.dataset.dictionary import Dictionary
from pipeline.evaluation.copies import Copies
from pipeline.evaluation.samples import WordSearch, find, known_words, longest_repeat, words_of

FEW = Dictionary.of("ab", bounded=True)
# Letters of both cases, what is nearly a letter, both apostrophes, and what divides words.
ODD = Dictionary.of(
    "aAbBcéÉß\u0130\u0131\u0391\u03b1\u03a3\u03c3\u03c2жЖ字\u00b2\u06631_'\u2019\u0307 .-\n", unknown=True, bounded=True
)
ODDLY = st.text("".join(ODD.characters), max_size=30)


def longest_copy(text, corpora):
    """The straightforward way."""
    longest = 0
    for start in range(len(text)):
        while start + longest < len(text) and any(text[start : start + longest + 1] in one for one in corpora):
            longest += 1
    return longest


def stream(documents, dictionary):
    """The ids of documents, each between a begin and an end symbol."""
    ids = [one for text in documents for one in (dictionary.begin, *dictionary.encode(text), dictionary.end)]
    return np.array(ids, dtype=dictionary.dtype)


def in_pieces(search, ids, sizes):
    at = 0
    for size in [*sizes, len(ids)]:
        search.read(ids[at : at + size])
        at += size
    return search


def test_known_words_leaves_out_the_word_that_is_cut_off():
    vocabulary = words_of(["The dog's bone."])
    assert vocabulary == {"the", "dog's", "bone"}
    assert known_words("the dog's xyzzy bone bon", vocabulary) == 3 / 4
    assert known_words("the dog's xyzzy bone bon", vocabulary, ended=True) == 3 / 5
    assert known_words("", vocabulary) == 1.0


@settings(deadline=None)  # the first call loads the kernels
@given(st.text("ab", max_size=14))
def test_longest_repeat_is_the_longest_repeat(text):
    pairs = [text[i:j] for i in range(len(text)) for j in range(i + 1, len(text) + 1)]
    expected = max((len(piece) for piece in pairs if pairs.count(piece) > 1), default=0)
    assert longest_repeat(text) == expected


@pytest.mark.parametrize("table_bytes", [0, 1 << 20])
@settings(deadline=None)  # the first call loads the kernels
@given(
    st.lists(st.text("abc", max_size=14), max_size=5),
    st.lists(st.text("ab", max_size=40), max_size=4),
    st.lists(st.integers(0, 20), max_size=6),
)
@example(["abab" * 20], ["abab" * 30], [])
def test_the_longest_copy_is_the_longest_common_substring(table_bytes, texts, documents, sizes):
    copies = in_pieces(Copies(texts, FEW, table_bytes=table_bytes), stream(documents, FEW), sizes)
    assert copies.longest() == [longest_copy(text, documents) for text in texts]


@settings(deadline=None)  # the first call loads the kernels
@given(st.lists(ODDLY, max_size=4), st.lists(ODDLY, max_size=4), st.lists(st.integers(0, 20), max_size=6))
@example(["a'b'c a''b 'a a' a'"], ["a'b", "c a", "b"], [1, 1, 1])
@example(["\u03a3\u0391\u03a3 \u03c3\u03b1\u03c2"], ["\u03a3\u03b1\u03c2"], [])
def test_words_are_found_as_by_the_expression(texts, documents, sizes):
    words = words_of(texts)
    search = in_pieces(WordSearch(words, ODD), stream(documents, ODD), sizes)
    assert search.known() == words & words_of(documents)
    assert search.known() == search.known()


@settings(deadline=None)  # the first call loads the kernels
@given(st.lists(st.sampled_from(["The", "the", "dog's", "Dog", "rock 'n' roll", "it\u2019s", "x--y", "naïve", "3rd"])))
def test_words_of_ordinary_text_are_those_of_its_lower_case(parts):
    from pipeline.evaluation.samples import WORD

    text = " ".join(parts)
    assert words_of([text]) == set(WORD.findall(text.lower()))


def test_unknown_characters_divide_words_and_copies():
    ids = np.array([ODD.begin, *ODD.encode("aab€baa"), ODD.end], dtype=ODD.dtype)
    assert ODD.encode("€") == [1]
    assert find(["aabbaa", "aab baa\ufffd"], ids, ODD) == ({"aab", "baa"}, [3, 3])


def test_a_map_is_read_in_chunks_and_its_pages_are_given_back(tmp_path, monkeypatch):
    monkeypatch.setattr(counting, "CHUNK", 100_003)
    text = np.random.default_rng(0).choice(list("ab' "), size=1_000_000)
    dictionary = Dictionary.of("ab' ", bounded=True)
    np.save(tmp_path / "ids.npy", dictionary.encode("".join(text)).astype(dictionary.dtype))
    ids = np.load(tmp_path / "ids.npy", mmap_mode="r")
    sample = "".join(text[99_990:100_040]) + " abbababbaabbbaab'b zzz"
    found = find([sample, "c"], ids, dictionary)
    assert found.longest_copies == [longest_copy(sample, ["".join(text)]), 0]
    assert found.words == words_of([sample]) & words_of(["".join(text)])
    joined = np.concatenate([np.array(chunk) for chunk in counting.chunks_of(ids)])
    assert joined.tobytes() == ids.tobytes()


@pytest.mark.skipif(not hasattr(mmap, "MADV_DONTNEED"), reason="no madvise here")
def test_reading_a_map_takes_a_chunk_of_memory(tmp_path):
    smaps = Path("/proc/self/smaps_rollup")
    if not smaps.exists():
        pytest.skip("no /proc here")

    def resident():
        return int(smaps.read_text().partition("Rss:")[2].split()[0]) * 1024

    np.save(tmp_path / "ids.npy", np.zeros(100_000_000, dtype=np.uint8))
    ids = np.load(tmp_path / "ids.npy", mmap_mode="r")
    before, most = resident(), 0
    for chunk in counting.chunks_of(ids):
        assert not chunk.any()
        most = max(most, resident())
    assert most - before < 20_000_000

from hypothesis import given
from hypothesis import strategies as st

from pipeline.evaluation.samples import known_words, longest_copy, longest_repeat, words_of


def test_known_words_leaves_out_the_word_that_is_cut_off():
    vocabulary = words_of(["The dog's bone."])
    assert vocabulary == {"the", "dog's", "bone"}
    assert known_words("the dog's xyzzy bone bon", vocabulary) == 3 / 4
    assert known_words("", vocabulary) == 1.0


@given(st.text("ab", max_size=14))
def test_longest_repeat_is_the_longest_repeat(text):
    pairs = [text[i:j] for i in range(len(text)) for j in range(i + 1, len(text) + 1)]
    expected = max((len(piece) for piece in pairs if pairs.count(piece) > 1), default=0)
    assert longest_repeat(text) == expected


@given(st.text("ab", max_size=10), st.text("ab", max_size=10))
def test_longest_copy_is_the_longest_common_substring(text, corpus):
    pieces = {text[i:j] for i in range(len(text)) for j in range(i, len(text) + 1)}
    assert longest_copy(text, corpus) == max(len(piece) for piece in pieces if piece in corpus) if text else True

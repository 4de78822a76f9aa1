import sys
from itertools import islice

import pytest
from conftest import random_model

from pipeline.generation.sampling import Sampling
from pipeline.generation.text import Writer, sample_seed

WRITER = Writer(random_model())


def written(prompt="abc", **options):
    return WRITER.complete(prompt, Sampling(**{"max_new_chars": 80, "seed": 3, **options}))


def test_the_same_seed_writes_the_same_text():
    assert written() == written()
    assert written().completion != written(seed=4).completion
    assert len(written().completion) == 80


def test_it_streams_what_it_completes():
    assert "".join(WRITER.stream("abc", Sampling(max_new_chars=80, seed=3))) == written().completion


def test_a_longer_text_begins_as_a_shorter_one():
    assert written(max_new_chars=200).completion.startswith(written().completion)


def test_greedy_does_not_depend_on_the_seed():
    assert written(temperature=0).completion == written(temperature=0, seed=9).completion


def test_it_ends_before_a_stop_string_also_where_it_straddles():
    whole = written().completion
    stop = whole[20:25]
    done = written(stop=("zzz", stop))
    assert done.completion == whole[: whole.index(stop)]
    assert done.finish_reason == "stop"
    streamed = list(WRITER.stream("abc", Sampling(max_new_chars=80, seed=3, stop=(stop,))))
    assert "".join(streamed) == done.completion


def test_a_stop_string_that_never_comes_changes_nothing():
    assert written(stop=("abcabcabcabc",)).completion == written().completion
    assert written(stop=("abcabcabcabc",)).finish_reason == "length"


def test_of_two_stop_strings_the_earlier_counts():
    whole = written().completion
    assert written(stop=(whole[30:33], whole[10:32])).completion == whole[: whole.index(whole[10:32])]


def test_unknown_characters_are_dropped_with_a_warning():
    done = written("a😀b\0c")
    assert done.completion == written("abc").completion
    assert done.warnings == ("dropped 2 characters that the model does not know: '\\x00', '😀'",)
    assert done.text.startswith("a😀b\0c")


@pytest.mark.parametrize("prompt", ["", "😀", "XYZ"])
def test_a_prompt_without_known_characters_starts_from_the_start(prompt):
    assert len(written(prompt).completion) == 80


def test_no_new_characters():
    assert written(max_new_chars=0).completion == ""
    assert written(max_new_chars=0).finish_reason == "length"


def test_padding_and_unknown_are_never_written():
    writer = Writer(random_model(unknown=True, seed=5))
    text = writer.complete("abc", Sampling(max_new_chars=2000, temperature=3.0)).completion
    assert set(text) <= set(writer.dictionary.characters)


def test_streaming_is_lazy():
    assert len(list(islice(WRITER.stream("a", Sampling(max_new_chars=100_000)), 5))) == 5


def test_samples_have_seeds_of_their_own():
    assert sample_seed(7, 0) == 7
    assert len({sample_seed(7, number) for number in range(100)}) == 100


def test_a_long_prompt_is_cut_with_a_warning(monkeypatch):
    monkeypatch.setattr(sys.modules["pipeline.generation.text"], "MAX_PROMPT_CHARS", 10)
    assert WRITER.read_prompt("a" * 11).warnings == ("only the last 10 of 11 characters were read",)

"""From a prompt to a completion, a stream or a score."""

import sys
from itertools import islice

import numpy as np
import pytest
from support.models import random_model

from pipeline.core.errors import UserError
from pipeline.core.reproducible import sample_seed
from pipeline.generation.text import Writer
from pipeline.params.sampling import Sampling

WRITER = Writer(random_model())


def written(prompt="abc", **options):
    return WRITER.complete(prompt, Sampling(**{"max_new_chars": 80, "seed": 3, **options}))


def test_the_same_seed_gives_the_same_text():
    assert written() == written()
    assert written().completion != written(seed=4).completion
    assert len(written().completion) == 80


def test_stream_and_complete_give_the_same_text():
    streamed = list(WRITER.stream("abc", Sampling(max_new_chars=80, seed=3)))
    assert "".join(one.char for one in streamed) == written().completion
    assert [one.log_prob for one in streamed] == written().log_probs.tolist()
    assert {one.alternatives for one in streamed} == {()}


def test_alternatives_are_the_most_likely_characters():
    for one in WRITER.stream("abc", Sampling(max_new_chars=40, temperature=0), alternatives=3):
        chars, scores = zip(*one.alternatives, strict=True)
        assert (one.char, one.log_prob) in one.alternatives or one.char not in chars
        assert list(scores) == sorted(scores, reverse=True)
        assert len(set(chars)) == 3


def test_a_batch_gives_the_same_completions_as_single_prompts():
    prompts = [("abc", "", "hgfedcba" * 30, "a", "😀")[at % 5] for at in range(150)]
    samplings = [Sampling(max_new_chars=20 + at % 7, seed=at % 11, temperature=(at % 3) / 2) for at in range(150)]
    together = WRITER.generate(prompts, samplings)
    for prompt, sampling, done in zip(prompts[:20], samplings[:20], together[:20], strict=True):
        alone = WRITER.complete(prompt, sampling)
        assert (alone.completion, alone.warnings) == (done.completion, done.warnings)
        assert alone.log_probs.tobytes() == done.log_probs.tobytes()
    assert [len(done.completion) for done in together] == [one.max_new_chars for one in samplings]
    assert WRITER.generate([], Sampling()) == []


def test_the_score_of_a_completion_equals_its_log_probabilities():
    greedy = WRITER.complete("abc", Sampling(max_new_chars=30, temperature=0))
    scored = WRITER.score("\n" + greedy.text + "😀")
    assert (scored.text, scored.dropped) == ("\n" + greedy.text, 1)
    assert len(scored.log_probs) == 34
    assert scored.perplexity == pytest.approx(np.exp(-scored.log_probs.mean()))
    assert scored.bits_per_char == pytest.approx(np.log2(scored.perplexity))
    # A text without a prompt starts as if after a newline.
    begun = WRITER.complete("", Sampling(max_new_chars=30))
    np.testing.assert_allclose(WRITER.score(begun.completion).log_probs, begun.log_probs, atol=1e-5)


def test_a_score_includes_all_predictions_on_request():
    scored = WRITER.score("abc def" * 200, predictions=True)
    assert scored.predictions.shape == (1400, len(WRITER.dictionary))
    own = scored.predictions[np.arange(1400), WRITER.dictionary.encode(scored.text)]
    assert own.tolist() == scored.log_probs.tolist()


def test_a_saved_state_can_be_continued():
    kept = WRITER.read("c", WRITER.read("ab"))
    streamed = WRITER.stream("", Sampling(max_new_chars=80, seed=3), state=kept)
    assert "".join(one.char for one in streamed) == written("abc").completion


def test_only_allowed_characters_are_generated():
    assert set(written(allowed="abÄ").completion) == {"a", "b"}
    with pytest.raises(UserError, match=r"^allowed: the model knows none of the characters 'XYZ'"):
        written(allowed="XYZ")


def test_a_repetition_penalty_includes_the_prompt():
    free = written("abcabcabcabc", temperature=0, max_new_chars=1).completion
    penalised = written("abc" + free * 5, temperature=0, max_new_chars=1, repetition_penalty=100).completion
    assert penalised != written("abc" + free * 5, temperature=0, max_new_chars=1).completion or penalised != free


def test_a_prompt_of_100_kilobytes_works():
    prompt = "abcdefgh \n" * 10_000
    assert len(written(prompt, max_new_chars=5).completion) == 5


def test_a_longer_text_starts_with_the_shorter_one():
    assert written(max_new_chars=200).completion.startswith(written().completion)


def test_greedy_does_not_depend_on_the_seed():
    assert written(temperature=0).completion == written(temperature=0, seed=9).completion


def test_a_completion_stops_before_a_stop_string():
    whole = written().completion
    stop = whole[20:25]
    done = written(stop=("zzz", stop))
    assert done.completion == whole[: whole.index(stop)]
    assert done.finish_reason == "stop"
    streamed = list(WRITER.stream("abc", Sampling(max_new_chars=80, seed=3, stop=(stop,))))
    assert "".join(one.char for one in streamed) == done.completion


def test_a_stop_string_that_does_not_occur_changes_nothing():
    assert written(stop=("abcabcabcabc",)).completion == written().completion
    assert written(stop=("abcabcabcabc",)).finish_reason == "length"


def test_the_stop_string_that_is_complete_first_stops_the_completion():
    whole = written().completion
    assert written(stop=(whole[30:33], whole[10:32])).completion == whole[: whole.index(whole[10:32])]


def test_unknown_characters_are_dropped_with_a_warning():
    done = written("a😀b\0c")
    assert done.completion == written("abc").completion
    assert done.warnings == ("dropped 2 characters that the model does not know: '\\x00', '😀'",)
    assert done.text.startswith("a😀b\0c")


@pytest.mark.parametrize("prompt", ["", "😀", "XYZ"])
def test_a_prompt_without_known_characters_gives_a_completion(prompt):
    assert len(written(prompt).completion) == 80


def test_zero_new_characters_give_an_empty_completion():
    assert written(max_new_chars=0).completion == ""
    assert written(max_new_chars=0).finish_reason == "length"


def test_padding_and_unknown_symbols_are_never_generated():
    writer = Writer(random_model(unknown=True, seed=5))
    text = writer.complete("abc", Sampling(max_new_chars=2000, temperature=3.0)).completion
    assert set(text) <= set(writer.dictionary.characters)


def test_streaming_is_lazy():
    assert len(list(islice(WRITER.stream("a", Sampling(max_new_chars=100_000)), 5))) == 5


def test_each_sample_has_its_own_seed():
    assert sample_seed(7, 0) == 7
    assert len({sample_seed(7, number) for number in range(100)}) == 100


def test_a_long_prompt_is_truncated_with_a_warning(monkeypatch):
    monkeypatch.setattr(sys.modules["pipeline.generation.text"], "MAX_PROMPT_CHARS", 10)
    assert WRITER.encode_prompt("a" * 11).warnings == ("only the last 10 of 11 characters were read",)


def test_a_frequency_penalty_counts_across_steps():
    streamed = WRITER.stream("abc", Sampling(max_new_chars=80, seed=3, frequency_penalty=2.0))
    text = "".join(one.char for one in streamed)
    assert text == written(frequency_penalty=2.0).completion
    # With a strong penalty, all characters are used about equally often.
    assert max(map(text.count, text)) < max(map(written().completion.count, written().completion))


def test_a_bias_bans_or_forces_a_character():
    assert "a" in written(max_new_chars=300).completion
    assert "a" not in written(max_new_chars=300, logit_bias=(("a", -100.0),)).completion
    assert set(written(logit_bias=(("a", 100.0),)).completion) == {"a"}
    probabilities = written(logit_bias=(("a", 100.0),)).log_probs
    assert probabilities.max() < -0.5  # log-probabilities are the network's, before the bias


def test_a_bias_bans_the_end_symbol():
    writer = Writer(random_model(bounded=True, ending=5))
    assert len(writer.complete("abc", Sampling(max_new_chars=50)).completion) < 50
    banned = Sampling(max_new_chars=50, logit_bias=(("\u2403", -100.0),))
    assert len(writer.complete("abc", banned).completion) == 50


@pytest.mark.parametrize("char", ["😀", "ab", "", "\u2403"])
def test_a_bias_for_an_unknown_character_is_refused(char):
    with pytest.raises(UserError, match=r"^logit_bias: found .*, allowed are single characters that the model knows"):
        WRITER.check(Sampling(logit_bias=((char, 1.0),)))

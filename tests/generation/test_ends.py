"""Models with begin and end symbols: a text starts after the begin symbol and stops at the end symbol."""

import math

import numpy as np
import pytest
from support.models import random_model

from pipeline.core.errors import UserError
from pipeline.generation.text import Writer
from pipeline.generation.text_types import Chunk, StopFilter, TextInProgress
from pipeline.params.sampling import Sampling

WRITER = Writer(random_model(bounded=True, unknown=True, ending=-0.5))
CERTAIN = Writer(random_model(bounded=True, ending=100))
NEVER = Writer(random_model(bounded=True, ending=-100))
MANY = [Sampling(max_new_chars=60, seed=seed) for seed in range(100)]


def written(prompt="abc", writer=WRITER, **options):
    return writer.complete(prompt, Sampling(**{"max_new_chars": 300, "seed": 3, **options}))


def streamed(prompt, sampling):
    draft = WRITER.start_text(WRITER.encode_prompt(prompt).ids, sampling)
    return list(WRITER.stream_text(draft)), draft


def ids_of(prompt, sampling, steps):
    """Return the ids that the engine generates, including the end symbol and everything after it."""
    state = WRITER.engine.read([WRITER.dictionary.begin, *WRITER.dictionary.encode(prompt)])
    (one,) = WRITER.engine.write([WRITER.engine.row(state, sampling)], steps)
    return one.ids.tolist()


def test_a_completion_stops_before_the_first_end_symbol():
    for prompt in ("", "abc"):
        for sampling in MANY:
            done = WRITER.complete(prompt, sampling)
            ids = ids_of(prompt, sampling, 60)
            end = ids.index(WRITER.dictionary.end) if WRITER.dictionary.end in ids else 60
            assert done.completion == WRITER.dictionary.decode(ids[:end])
            assert done.finish_reason == ("stop" if end < 60 else "length")
            assert len(done.log_probs) == len(done.completion)
    reasons = [done.finish_reason for done in WRITER.generate(["abc"] * 100, MANY)]
    assert 5 < reasons.count("stop") < 100


def test_stream_and_batch_give_the_same_completion():
    for prompt in ("", "abc"):
        together = WRITER.generate([prompt] * 100, MANY)
        for sampling, done in zip(MANY, together, strict=True):
            characters, draft = streamed(prompt, sampling)
            assert "".join(one.char for one in characters) == done.completion
            assert [one.log_prob for one in characters] == done.log_probs.tolist()
            assert (draft.finish_reason, draft.ended) == (done.finish_reason, done.finish_reason == "stop")


def test_a_certain_end_symbol_gives_an_empty_completion():
    for temperature in (0.0, 1.0):
        done = written(writer=CERTAIN, temperature=temperature)
        assert (done.completion, done.finish_reason, done.log_probs.tolist()) == ("", "stop", [])


def test_without_an_end_symbol_the_completion_has_full_length():
    done = written(writer=NEVER)
    assert (len(done.completion), done.finish_reason) == (300, "length")


def test_zero_new_characters_finish_with_length():
    assert written(writer=CERTAIN, max_new_chars=0).finish_reason == "length"


def test_max_new_chars_is_an_upper_bound():
    texts = {sampling.seed: WRITER.complete("abc", sampling) for sampling in MANY}
    seed = next(at for at, one in texts.items() if one.finish_reason == "stop" and len(one.completion) > 3)
    length = len(texts[seed].completion)
    reasons = [written(seed=seed, max_new_chars=most).finish_reason for most in (length - 1, length, length + 1)]
    # The end symbol takes a step of its own, so a text with max_new_chars characters ends by length.
    assert reasons == ["length", "length", "stop"]


def test_characters_after_the_end_are_dropped():
    chunk = Chunk("abcdef", np.arange(6, dtype=np.float32), None)
    drafts = [TextInProgress(None, left, StopFilter([])) for left in (3, 6, 7)]
    taken = [draft.take(chunk, ended=True) for draft in drafts]
    assert [one.text for one in taken] == ["abc", "abcdef", "abcdef"]
    assert [(one.finish_reason, one.ended) for one in drafts] == [("length", False), ("length", False), ("stop", True)]


def test_special_symbols_are_never_generated():
    text = "".join(one.completion for one in WRITER.generate([""] * 200, Sampling(max_new_chars=100, temperature=5)))
    several = WRITER.generate(["a"] * 200, [Sampling(max_new_chars=100, temperature=5, seed=at) for at in range(200)])
    assert set(text + "".join(one.completion for one in several)) <= set(WRITER.dictionary.characters)


def test_greedy_stops_where_the_end_symbol_is_most_likely():
    writer = Writer(random_model(bounded=True, ending=1.0, seed=1, scale=0.9))
    done = writer.complete("abc", Sampling(max_new_chars=300, temperature=0))
    ids = writer.dictionary.encode("abc" + done.completion)
    state = writer.engine.read([writer.dictionary.begin, *ids])
    if done.finish_reason == "stop":
        logits = writer.engine.predict(state)
        assert logits[writer.dictionary.end] >= logits[writer.dictionary.first_id :].max()
    assert done.completion == writer.complete("abc", Sampling(max_new_chars=300, temperature=0, seed=5)).completion


def test_allowed_characters_cannot_exclude_the_end_symbol():
    texts = [written(allowed="ab", seed=seed, max_new_chars=200) for seed in range(20)]
    assert {one.finish_reason for one in texts} >= {"stop"}
    assert set("".join(one.completion for one in texts)) == {"a", "b"}
    assert written(writer=CERTAIN, allowed="ab").finish_reason == "stop"
    with pytest.raises(UserError, match=r"^allowed: the model knows none"):
        written(allowed="\u2403\ufffd")


def test_only_a_complete_stop_string_stops_a_completion():
    seed, whole = next((at, one) for at in range(100) if len((one := written(seed=at)).completion) > 20)
    assert whole.finish_reason == "stop"
    stop = whole.completion[10:13]
    stopped = written(seed=seed, stop=(stop,))
    assert (stopped.completion, stopped.finish_reason) == (whole.completion[: whole.completion.index(stop)], "stop")
    # The last characters are held back, in case the stop string continues; the end releases them.
    begun = written(seed=seed, stop=(whole.completion[-2:] + "hhhhhhhh",))
    assert begun == whole
    characters, draft = streamed("abc", Sampling(max_new_chars=300, seed=seed, stop=(whole.completion[-2:] + "hhhhh",)))
    assert ("".join(one.char for one in characters), draft.ended) == (whole.completion, True)
    _, draft = streamed("abc", Sampling(max_new_chars=300, seed=seed, stop=(stop,)))
    assert (draft.finish_reason, draft.ended) == ("stop", False)


def test_a_repetition_penalty_does_not_apply_to_the_end_symbol():
    plain, penalised = (
        written("abab", writer=CERTAIN, repetition_penalty=penalty, temperature=0) for penalty in (1.0, 100.0)
    )
    assert plain == penalised


def test_scoring_starts_after_the_begin_symbol():
    dictionary, engine = WRITER.dictionary, WRITER.engine
    ids = dictionary.encode("abc")
    scored = WRITER.score("abc")
    expected, _ = engine.score(ids, engine.read([dictionary.begin]))
    assert (scored.text, scored.log_probs.tolist()) == ("abc", expected.tolist())
    done = next(one for one in WRITER.generate([""] * 100, MANY) if one.completion)
    np.testing.assert_allclose(WRITER.score(done.completion).log_probs, done.log_probs, atol=1e-5)


def test_the_end_symbol_is_scored_on_request():
    dictionary, engine = WRITER.dictionary, WRITER.engine
    scored = WRITER.score("abc", predictions=True, ended=True)
    state = engine.read([dictionary.begin, *dictionary.encode("abc")])
    assert scored.text == "abc\n"
    assert scored.log_probs[3] == pytest.approx(engine.predict(state)[dictionary.end], abs=1e-5)
    assert scored.predictions.shape == (4, len(dictionary))
    assert Writer(random_model()).score("abc", ended=True).text == "abc"


def test_alternatives_include_the_end_symbol():
    one = next(WRITER.stream("abc", Sampling(max_new_chars=5, seed=1, top_k=3), alternatives=len(WRITER.dictionary)))
    shares = dict(one.alternatives)
    assert shares["\u2403"] < 0
    assert sum(map(math.exp, shares.values())) == pytest.approx(1, abs=1e-4)


def test_a_saved_state_can_be_continued():
    kept = WRITER.read("c", WRITER.read("ab"))
    characters = WRITER.stream("", Sampling(max_new_chars=300, seed=3), state=kept)
    assert "".join(one.char for one in characters) == written("abc").completion


def test_special_symbols_in_a_prompt_are_dropped():
    read = WRITER.encode_prompt("a\ufffdb\u2402")
    assert read.ids.tolist() == WRITER.dictionary.encode("ab").tolist()
    assert read.warnings == ("dropped 2 characters that the model does not know: '\u2402', '\ufffd'",)

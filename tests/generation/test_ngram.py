"""Generation and scoring with a model that has an n-gram model."""

from dataclasses import replace

import numpy as np
import pytest
from support.models import random_model, with_ngram

from pipeline.dataset.splits import Split
from pipeline.evaluation.perplexity import measure, whole_batches
from pipeline.generation.text import Writer
from pipeline.model.network import CharNetwork
from pipeline.params.sampling import Sampling

MODEL = with_ngram(random_model())
WRITER, NETWORK_ALONE = Writer(MODEL), Writer(replace(MODEL, ngram=None))


def test_a_text_does_not_depend_on_its_batch_or_on_how_it_is_written():
    options = [Sampling(max_new_chars=60, seed=at, ngram_weight=at / 4) for at in range(5)]
    prompts = ["", "abc", "a", "cab", "abc"]
    batch = WRITER.generate(prompts, options)
    for prompt, sampling, one in zip(prompts, options, batch, strict=True):
        alone = WRITER.complete(prompt, sampling)
        assert alone.completion == one.completion
        assert alone.log_probs.tolist() == one.log_probs.tolist()
        assert "".join(char.char for char in WRITER.stream(prompt, sampling)) == one.completion


def test_scores_are_the_log_probs_of_what_was_written():
    done = WRITER.complete("", Sampling(max_new_chars=80, seed=1))
    np.testing.assert_allclose(WRITER.score(done.completion).log_probs, done.log_probs, atol=1e-4)


def test_engine_and_evaluation_agree():
    text = WRITER.complete("abc", Sampling(max_new_chars=200, seed=2)).completion
    ids = MODEL.dictionary.encode(text)
    network = CharNetwork(MODEL.config)
    network.load_weights(MODEL.weights)
    (losses,) = measure(network, whole_batches(Split(ids, {})), ngram=MODEL.ngram)
    engine = WRITER.engine
    scores, _ = engine.score(ids[1:], engine.read(ids[:1]))
    np.testing.assert_allclose(scores, -losses.nll[0], atol=1e-4)


def test_without_its_weight_the_network_alone_is_drawn_from():
    sampling = Sampling(max_new_chars=60, seed=3)
    alone = NETWORK_ALONE.complete("abc", sampling)
    drawn = WRITER.complete("abc", replace(sampling, ngram_weight=0))
    assert drawn.completion == alone.completion
    # The log-probabilities are the whole model's.
    assert drawn.log_probs.tolist() != alone.log_probs.tolist()
    assert WRITER.complete("abc", sampling).completion != alone.completion


@pytest.mark.parametrize("steps", [1, 7])
def test_the_state_after_a_text_is_that_of_reading_it(steps):
    engine = WRITER.engine
    row = engine.row(engine.read([4, 5]), Sampling(seed=5))
    ids = [4, 5]
    for _ in range(3):
        (written,) = engine.write([row], steps)
        ids += written.ids.tolist()
    np.testing.assert_allclose(engine.predict(row.state), engine.predict(engine.read(ids)), atol=1e-4)

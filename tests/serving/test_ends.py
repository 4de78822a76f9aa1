"""A served model that ends its texts by itself."""

from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from serving.conftest import events, post, running, served
from support.models import random_model

from pipeline.generation.text import Writer
from pipeline.params.sampling import Sampling
from pipeline.serving.model_source import card_of
from pipeline.serving.pyfunc_model import answer, stream_answer

MODEL = random_model(bounded=True, ending=-0.5)
WRITER = Writer(MODEL)


@pytest.fixture(scope="module")
def client():
    with running(lambda: served(bounded=True, ending=-0.5)) as one:
        yield one


def alone(seed, prompt="abc", most=200, **options):
    done = WRITER.complete(prompt, Sampling(max_new_chars=most, seed=seed, **options))
    return done.completion, done.finish_reason


def of(choice):
    return choice["text"], choice["finish_reason"]


@pytest.mark.parametrize("logprobs", [None, 2])
@pytest.mark.parametrize("prompt", ["", "abc"])
def test_concurrent_texts_end_as_they_do_alone_whole_or_streamed(client, logprobs, prompt):
    body = {"prompt": prompt, "max_tokens": 200, "logprobs": logprobs}

    def whole(seed):
        return of(post(client, **body, seed=seed)["choices"][0])

    def streamed(seed):
        parts = [event["choices"][0] for event in events(client, **body, seed=seed)]
        assert {part["finish_reason"] for part in parts[:-1]} <= {None}
        return "".join(part["text"] for part in parts), parts[-1]["finish_reason"]

    expected = [alone(seed, prompt) for seed in range(48)]
    assert {reason for _, reason in expected} >= {"stop"}
    with ThreadPoolExecutor(48) as pool:
        assert list(pool.map(whole, range(48))) == expected
        assert list(pool.map(streamed, range(48))) == expected


def test_the_figures_are_of_what_is_shown(client):
    seed = next(seed for seed in range(100) if alone(seed)[1] == "stop" and len(alone(seed)[0]) > 3)
    text = alone(seed)[0]
    said = post(client, prompt="abc", max_tokens=200, seed=seed, logprobs=14, echo=True)
    choice = said["choices"][0]
    assert choice["text"] == "abc" + text
    assert choice["logprobs"]["tokens"] == list("abc" + text)
    assert len(choice["logprobs"]["token_logprobs"]) == 3 + len(text)
    assert said["usage"]["completion_tokens"] == len(text)
    assert "\u2403" in choice["logprobs"]["top_logprobs"][-1]


def test_the_openai_client_gets_finish_reason_stop(client):
    ours = openai.OpenAI(base_url=f"{client.base_url}/v1", api_key="none")
    seed = next(seed for seed in range(100) if alone(seed)[1] == "stop")
    done = ours.completions.create(model="charlm", prompt="abc", max_tokens=200, seed=seed)
    assert (done.choices[0].text, done.choices[0].finish_reason) == alone(seed)


def test_a_text_that_ends_at_once(client):
    with running(lambda: served(bounded=True, ending=100)) as other:
        assert of(post(other, prompt="abc", max_tokens=50)["choices"][0]) == ("", "stop")
        (part,) = events(other, prompt="abc", max_tokens=50, echo=True)
        assert of(part["choices"][0]) == ("abc", "stop")


def test_scores_are_after_the_begin_symbol(client):
    choice = post(client, prompt="abc", max_tokens=0, echo=True, logprobs=0)["choices"][0]
    assert choice["logprobs"]["token_logprobs"] == WRITER.score("abc").log_probs.tolist()


def test_the_card_says_whether_texts_end(client):
    assert client.get("/card").json()["ends"] is True
    assert card_of(random_model())["ends"] is False


def test_mlflows_answers_end_too():
    prompts = ["abc"] * 30
    done = answer(WRITER, prompts, {"max_new_chars": 200, "seed": 3})
    assert (done[0]["completion"], done[0]["finish_reason"]) == alone(3)
    for seed in range(10):
        assert "".join(stream_answer(WRITER, "abc", {"max_new_chars": 200, "seed": seed})) == alone(seed)[0]

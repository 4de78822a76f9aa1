"""Large requests: their limits, and that others are answered meanwhile."""

import contextlib
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from serving.conftest import events, figure, post, running, served, wait_for
from support.models import random_model

from pipeline.core.errors import UserError
from pipeline.core.reproducible import sample_seed
from pipeline.generation.text import Writer
from pipeline.params.sampling import Sampling
from pipeline.serving.completions import CompletionRequest, Limits
from pipeline.serving.middleware import BODIES_HELD
from pipeline.serving.pieces import SCORED_AT_ONCE, Choice, Piece, Scores, body_of

WRITER = Writer(random_model())


@pytest.mark.parametrize(
    ("body", "size"),
    [
        ({"prompt": "The", "n": 64, "logprobs": 20, "max_tokens": 20_000}, "773 MB with 64 texts"),
        ({"prompt": ["a" * 100_000] * 4, "echo": True, "logprobs": 20, "max_tokens": 0}, "242 MB with 4 texts"),
        ({"prompt": "a" * 100_000, "n": 64, "echo": True, "logprobs": 0, "max_tokens": 0}, "282 MB with 64 texts"),
        ({"prompt": ["a"] * 32, "n": 2, "logprobs": 1, "max_tokens": 20_000}, "92 MB with 64 texts"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_texts_times_characters_times_alternatives_are_limited(client, body, size, stream):
    error = post(client, 400, **body, stream=stream)["error"]
    assert error["param"] == "logprobs"
    assert f"which makes a response of about {size} of this length; allowed are 32 MB" in error["message"]


def test_the_longest_response_without_logprobs_is_within_the_default_limit():
    limits = Limits()
    CompletionRequest(prompt="a" * limits.prompt_chars, n=limits.texts, max_tokens=limits.max_tokens, echo=True).check(
        limits, "charlm"
    )


@pytest.mark.parametrize("logprobs", [None, 0, 1, 20])
@pytest.mark.parametrize("echo", [False, True])
def test_a_response_is_not_larger_than_its_estimate(client, logprobs, echo):
    request = CompletionRequest(prompt="abc\n" * 500, n=3, max_tokens=700, echo=echo, logprobs=logprobs)
    answer = client.post("/v1/completions", json=request.model_dump())
    assert len(answer.content) < request.response_bytes + 1000


@pytest.mark.parametrize("logprobs", [None, 0, 3])
def test_a_large_response_has_the_same_json(client, logprobs):
    """It is built in parts."""
    prompts = ["ab\n😀c" * 300, "de" * 700, ""]
    body = {"prompt": prompts, "n": 2, "max_tokens": 700, "seed": 3, "echo": True, "logprobs": logprobs}
    answer = post(client, **body)
    streamed = events(client, **body)
    for number, choice in enumerate(answer["choices"]):
        prompt = prompts[number // 2]
        text = prompt + WRITER.complete(prompt, Sampling(max_new_chars=700, seed=sample_seed(3, number % 2))).completion
        assert (choice["index"], choice["text"], choice["finish_reason"]) == (number, text, "length")
        parts = [event["choices"][0] for event in streamed if event["choices"][0]["index"] == number]
        assert "".join(part["text"] for part in parts) == text
        if logprobs is None:
            assert choice["logprobs"] is None
            continue
        assert choice["logprobs"]["tokens"] == list(text)
        assert choice["logprobs"]["text_offset"] == list(range(len(text)))
        for name, values in choice["logprobs"].items():
            assert values == [value for part in parts for value in part["logprobs"][name]]
        known = [char in WRITER.known for char in prompt]
        scored = choice["logprobs"]["token_logprobs"][: len(prompt)]
        expected = WRITER.score(prompt, predictions=True)
        assert [one for one, is_known in zip(scored, known, strict=True) if is_known] == expected.log_probs.tolist()
        top = choice["logprobs"]["top_logprobs"]
        assert [one is not None for one in top[: len(prompt)]] == known
        assert {len(one) for one in top if one is not None} == {logprobs}
        assert all(list(one.values()) == sorted(one.values(), reverse=True) for one in top if one)


def test_a_part_of_a_body_is_small():
    count = 10 * SCORED_AT_ONCE
    likely = np.tile(np.arange(3, dtype=np.int32), (count, 1))
    scores = Scores(np.full(count, -1.25, dtype=np.float32), likely, likely.astype(np.float32))
    parts = list(body_of({"id": "x"}, [Choice([Piece("a" * count, scores)], "stop")] * 3, "abc", {"usage": {}}))
    assert len(parts) > 1
    assert max(map(len, parts)) < 100_000
    assert len(json.loads(b"".join(parts))["choices"]) == 3


def test_predictions_of_all_characters_are_not_retained(client, monkeypatch):
    sizes = []
    original = Scores.of.__func__

    def of(cls, chunk, alternatives):
        scores = original(cls, chunk, alternatives)
        sizes.append((scores.likely.shape[1], scores.likely.base is None, scores.likely_log_probs.base is None))
        return scores

    monkeypatch.setattr(Scores, "of", classmethod(of))
    post(client, prompt="abc", echo=True, logprobs=2, max_tokens=50)
    assert sizes
    assert set(sizes) <= {(2, True, True), (0, True, True)}


@pytest.mark.parametrize("echo", [False, True])
def test_long_prompts_are_read_in_turn_with_others(echo):
    body = {"prompt": ["abcd" * 25_000] * 7, "max_tokens": 0 if echo else 5, "echo": echo, "logprobs": 0}
    with running(lambda: served(hidden=512), limits=Limits(seconds=100)) as client, ThreadPoolExecutor() as pool:
        long = pool.submit(httpx.post, f"{client.base_url}/v1/completions", json=body, timeout=100)
        wait_for(lambda: client.state.batcher.active == 7)
        post(client, prompt="abc", max_tokens=5)
        assert not long.done()
        client.state.served.writer.engine.score = client.state.served.writer.engine.read = _fail  # ends the long one
        wait_for(long.done)
        assert long.result().json()["error"]["message"] == "prompt: enough"


def _fail(*_, **__):
    raise UserError("prompt: enough")


@pytest.mark.parametrize("echo", [False, True])
def test_the_time_limit_ends_the_reading_of_prompts(echo):
    body = {"prompt": ["abcd" * 25_000] * 7, "max_tokens": 0 if echo else 5, "echo": echo, "logprobs": 0}
    with running(lambda: served(hidden=512), limits=Limits(seconds=0.3)) as client:
        begun = time.monotonic()
        assert post(client, 503, **body)["error"]["code"] == "timeout"
        assert time.monotonic() - begun < 10
        wait_for(lambda: figure(client, "charlm_texts_active") == 0)


def test_what_all_requests_hold_is_limited():
    body = {"prompt": "abc", "n": 8, "max_tokens": 20_000, "logprobs": 1, "stream": True}
    limit = CompletionRequest(**body).response_bytes
    with running(lambda: served(hidden=512), limits=Limits(response_bytes=limit, queue=1000)) as client:
        answers = []

        def ask():
            with httpx.stream("POST", f"{client.base_url}/v1/completions", json=body, timeout=60) as one:
                answers.append((one.status_code, one.headers.get("retry-after")))
                done.wait(60)

        done = threading.Event()
        threads = [threading.Thread(target=ask) for _ in range(12)]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(answers) == 12)
        done.set()
        for thread in threads:
            thread.join()
        assert sorted(set(answers)) == [(200, None), (429, "1")]
        assert answers.count((200, None)) == 8
        wait_for(lambda: client.state.budget.held == 0)
        post(client, prompt="abc", max_tokens=5)


def test_bodies_that_arrive_are_limited_all_together():
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
    with running(limits=Limits(body_bytes=1000)) as client, contextlib.ExitStack() as opened:
        for _ in range(50):
            one = opened.enter_context(socket.create_connection(("127.0.0.1", client.base_url.port)))
            one.sendall(head + b"a" * 900)
        refused = 'charlm_requests_total{route="/v1/completions",status="429"'
        wait_for(lambda: figure(client, refused) == 50 - BODIES_HELD * 1000 // 900)
        assert client.get("/healthz").status_code == 200
        opened.close()
        wait_for(lambda: figure(client, 'charlm_requests_total{route="/v1/completions"') == 50)
        post(client, max_tokens=5)


def test_a_response_of_one_part_has_its_length(client):
    for length, has_length in ((10, True), (20_000, True), (20_000, False)):
        answer = client.post("/v1/completions", json={"max_tokens": length, "logprobs": None if has_length else 0})
        assert ("content-length" in answer.headers) == has_length
        assert answer.json()["usage"]["completion_tokens"] == length

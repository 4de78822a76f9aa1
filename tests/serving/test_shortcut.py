"""Valid requests do not pass through FastAPI, and prompts that come again are not read again: both change no answer."""

import threading
from collections import deque
from types import SimpleNamespace

import pytest
from serving.conftest import post, wait_for
from support.models import random_model

from pipeline.generation.engine import READ_AT_ONCE
from pipeline.generation.text import Writer
from pipeline.params.sampling import Sampling
from pipeline.serving.batching import Batcher, _steps
from pipeline.serving.completions import CompletionRequest
from pipeline.serving.pieces import MOST_READ_PROMPTS, PRODUCTS_AT_ONCE, ReadPrompts

WRITER = Writer(random_model())


def alone(prompt, seed, max_tokens):
    return WRITER.complete(prompt, Sampling(max_new_chars=max_tokens, seed=seed)).completion


JSON, OF_FASTAPI = {"content-type": "application/json"}, {"content-type": "application/json; charset=utf-8"}


@pytest.mark.parametrize(
    "body",
    [
        *(
            b"",
            b"null",
            b"[]",
            b"3",
            b"{",
            b"{}{}",
            b'{"n": 1,}',
            b" \n{}\r ",
            b"\xef\xbb\xbf{}",
            b"\xff",
            "{}".encode("utf-16"),
        ),
        *(b'{"max_tokens": 5.0}', b'{"max_tokens": "5"}', b'{"max_tokens": true}', b'{"max_tokens": 1e1}'),
        *(b'{"temperature": 1}', b'{"temperature": NaN}', b'{"temperature": Infinity}', b'{"temperature": 1e400}'),
        *(b'{"temperature": "1"}', b'{"temperature": true}', b'{"seed": 1' + 400 * b"0" + b"}", b'{"seed": -0}'),
        *(b'{"seed": ' + 5000 * b"9" + b"}", b'{"seed": 01}', b'{"n": 1, "n": 0}', b'{"n": 0, "n": 1}', b'{"x": 1}'),
        *(rb'{"prompt": "\ud800"}', rb'{"prompt": "\ud83d\ude00"}', b'{"prompt": "\x01"}', rb'{"prompt": "\u0000"}'),
        *(
            rb'{"allowed": "\udfff"}',
            b'{"prompt": [1]}',
            b'{"prompt": []}',
            b'{"prompt": {}}',
            b'{"prompt": ["a", null]}',
        ),
        *(
            b'{"seed": 5, "top_k": 2, "top_p": 0.9, "min_p": 0.01, "temperature": 1.5, "allowed": "abc"}',
            b'{"seed": 5, "stop": ["a", "b"], "frequency_penalty": 1, "logit_bias": {"c": -5}, "n": 3}',
            b'{"seed": 5, "prompt": ["a", "b"], "max_tokens": 3, "echo": true, "logprobs": 2}',
            b'{"logit_bias": {"a": "1"}}',
            b'{"logit_bias": {"a": 1}}',
            b'{"logit_bias": {"a": NaN}}',
            b'{"stop": ["a", 1]}',
        ),
        *(
            b'{"stream_options": {}}',
            b'{"stream_options": 1}',
            b'{"model": "other"}',
            b'{"stream": 0}',
            b'{"echo": "no"}',
        ),
        b"[" * 5000,
        b'{"prompt":' * 5000,
    ],
)
def test_the_shortcut_accepts_and_refuses_what_fastapi_does(client, body):
    def ask(headers):
        answer = client.post("/v1/completions", content=body, headers=headers)
        found = answer.json()
        drawn = {"id", "created"} | (set() if b'"seed"' in body else {"seed", "choices"})
        return answer.status_code, {name: value for name, value in found.items() if name not in drawn}

    assert ask(JSON) == ask(OF_FASTAPI)


def test_valid_requests_take_the_shortcut_and_others_do_not(client, monkeypatch):
    seen, original = [], CompletionRequest.model_validate_json
    monkeypatch.setattr(CompletionRequest, "model_validate_json", lambda body: seen.append(body) or original(body))
    routed = client.state.metrics.requests.labels("/v1/completions", "200")._value.get
    before = routed()
    for headers in (JSON, OF_FASTAPI):
        assert client.post("/v1/completions", content=b'{"max_tokens": 1}', headers=headers).status_code == 200
    wait_for(lambda: routed() == before + 2)  # both are counted under the same route
    assert seen == [b'{"max_tokens": 1}']


def test_a_prompt_that_comes_again_is_not_read_again(client, monkeypatch):
    engine, read = client.state.served.writer.engine, []
    original = engine.read
    monkeypatch.setattr(engine, "read", lambda ids, state=None: read.append(len(ids)) or original(ids, state))
    client.state.served.read_before._read.clear()
    first, second = (post(client, prompt="faded", max_tokens=10, seed=3)["choices"][0]["text"] for _ in range(2))
    assert read == [5]
    assert first == second == alone("faded", 3, 10)
    scored = post(client, prompt="faded", max_tokens=10, seed=3, echo=True, logprobs=0)["choices"][0]
    assert scored["text"] == "faded" + first
    assert len(scored["logprobs"]["token_logprobs"]) == 15


def test_only_the_last_prompts_are_remembered():
    known, state = ReadPrompts(), WRITER.engine.start()
    for number in range(MOST_READ_PROMPTS + 1):
        known.add(str(number), WRITER.encode_prompt("a"), state)
    assert known.find("0") is None
    assert known.find("1") is not None


def test_a_used_prompt_is_remembered_and_a_large_one_is_not(client):
    known, state = ReadPrompts(), WRITER.engine.start()
    known.add("used", WRITER.encode_prompt("a"), state)
    for number in range(MOST_READ_PROMPTS):
        assert known.find("used") is not None
        known.add(str(number), WRITER.encode_prompt("a"), state)
    assert known.find("used") is not None
    # None of these characters is known, so there is nothing to read.
    assert post(client, prompt="a" + "\N{SNOWMAN}" * 20_000, max_tokens=1)["warnings"]
    assert max(map(len, client.state.served.read_before._read)) <= READ_AT_ONCE


def test_a_step_reads_few_prompts_but_all_samples_of_one():
    many = [SimpleNamespace(prompt=Prompt(0.4 * PRODUCTS_AT_ONCE)) for _ in range(5)]
    samples = [SimpleNamespace(prompt=many[0].prompt) for _ in range(5)]
    for ready, expected in ((many, 3), (samples, 5), (samples + many, 8)):
        batcher = Batcher.__new__(Batcher)
        batcher.active, batcher._lanes, batcher._changed = len(ready), [None], threading.Condition()
        batcher._ready = deque(ready)
        with batcher._changed:
            assert len(batcher._share(0)) == expected


class Prompt:
    """What a lane looks at when it takes a text."""

    def __init__(self, products):
        self.products = products


def test_lanes_share_the_texts_and_one_lane_serves_few():
    taken = {}
    for active in (1, 8, 9, 40):
        batcher = Batcher.__new__(Batcher)
        batcher.active, batcher._lanes, batcher._changed = active, [None, None], threading.Condition()
        batcher._ready = deque(SimpleNamespace(prompt=Prompt(0)) for _ in range(active))
        with batcher._changed:
            taken[active] = [len(batcher._share(0)), len(batcher._share(0))]
    assert taken == {1: [1, 0], 8: [8, 0], 9: [8, 1], 40: [20, 20]}


def test_a_step_ends_the_shortest_text_unless_that_is_soon():
    def steps(*left, most=128):
        return _steps(WRITER, [SimpleNamespace(left=one) for one in left], most)

    assert steps(100) == 100
    assert steps(100, most=32) == 25
    assert steps(100, 40) == 40
    assert steps(5000) == 125
    assert steps(3, 500) == 32

"""Valid requests do not pass through FastAPI, and prompts that come again are not read again: both change no answer."""

import threading
from collections import deque
from types import SimpleNamespace

import pytest
from serving.conftest import post, wait_for
from support.models import random_model

from pipeline.generation.text import Writer
from pipeline.params.sampling import Sampling
from pipeline.serving.batching import Batcher, _steps
from pipeline.serving.completions import CompletionRequest
from pipeline.serving.pieces import MOST_READ_PROMPTS, ReadPrompts

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


def test_lanes_share_the_texts_and_one_lane_serves_few():
    taken = {}
    for active in (1, 8, 9, 40):
        batcher = Batcher.__new__(Batcher)
        batcher.active, batcher._lanes, batcher._changed = active, [None, None], threading.Condition()
        batcher._ready = deque(range(active))
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

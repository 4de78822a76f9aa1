import threading
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from fastapi.exceptions import RequestValidationError
from serving.conftest import events, figure, post, running, served, wait_for
from support.models import random_model

from pipeline.generation.text import Writer
from pipeline.params.sampling import Sampling
from pipeline.serving.completions import CompletionRequest

WRITER = Writer(random_model())


def alone(prompt, seed, max_tokens, **options):
    return WRITER.complete(prompt, Sampling(max_new_chars=max_tokens, seed=seed, **options)).completion


def test_the_same_seed_gives_the_same_text(client):
    answer = post(client, prompt="abc", max_tokens=40, seed=3)
    assert answer["choices"] == [
        {"index": 0, "text": alone("abc", 3, 40), "logprobs": None, "finish_reason": "length"},
    ]
    assert answer["usage"] == {"prompt_tokens": 3, "completion_tokens": 40, "total_tokens": 43}
    assert (answer["object"], answer["model"], answer["seed"]) == ("text_completion", "charlm", 3)


def test_the_samples_of_a_prompt_read_it_once(client, monkeypatch):
    engine, read = client.state.served.writer.engine, []
    original = engine.read
    monkeypatch.setattr(engine, "read", lambda ids, state=None: read.append(len(ids)) or original(ids, state))
    client.state.served.read_before._read.clear()
    choices = post(client, prompt=["abcba", "deed"], n=4, max_tokens=10, seed=3)["choices"]
    assert sorted(read) == [4, 5]
    assert choices[0]["text"] == alone("abcba", 3, 10)
    assert choices[4]["text"] == alone("deed", 3, 10)


def test_without_a_seed_one_is_drawn_and_reported(client):
    answer = post(client, prompt="abc", max_tokens=40)
    assert answer["seed"] != post(client, prompt="abc", max_tokens=40)["seed"]
    assert answer["choices"][0]["text"] == alone("abc", answer["seed"], 40)


def test_streamed_events_are_the_same_text(client):
    parts = events(client, prompt="abc", max_tokens=200, seed=3, logprobs=2)
    assert "".join(part["choices"][0]["text"] for part in parts) == alone("abc", 3, 200)
    assert [part["choices"][0]["finish_reason"] for part in parts[:-1]] == [None] * (len(parts) - 1)
    assert parts[-1]["choices"][0]["finish_reason"] == "length"
    offsets = [offset for part in parts for offset in part["choices"][0]["logprobs"]["text_offset"]]
    assert offsets == list(range(200))


def test_the_openai_client_works_unchanged(client):
    ours = openai.OpenAI(base_url=f"{client.base_url}/v1", api_key="none")
    assert [model.id for model in ours.models.list()] == ["charlm"]
    done = ours.completions.create(
        model="charlm",
        prompt=["abc", "def"],
        n=2,
        max_tokens=20,
        seed=5,
        temperature=0.7,
        top_p=0.9,
        stop=["zz"],
        logprobs=3,
        echo=True,
        extra_body={"top_k": 5, "min_p": 0.01, "repetition_penalty": 1.1},
    )
    assert [choice.index for choice in done.choices] == [0, 1, 2, 3]
    expected = alone("abc", 5, 20, temperature=0.7, top_p=0.9, top_k=5, min_p=0.01, repetition_penalty=1.1)
    assert done.choices[0].text == "abc" + expected
    assert done.choices[2].text.startswith("def")
    assert len({choice.text for choice in done.choices}) == 4
    assert "".join(done.choices[0].logprobs.tokens) == done.choices[0].text
    assert all(len(top) == 3 for top in done.choices[0].logprobs.top_logprobs)
    assert done.usage.completion_tokens == 80
    parts = list(
        ours.completions.create(
            model="charlm", prompt="abc", max_tokens=30, seed=5, stream=True, stream_options={"include_usage": True}
        )
    )
    assert "".join(part.choices[0].text for part in parts[:-1]) == alone("abc", 5, 30)
    assert parts[-1].usage.completion_tokens == 30
    with pytest.raises(openai.BadRequestError, match="temperature: found"):
        ours.completions.create(model="charlm", prompt="a", temperature=-1)
    with pytest.raises(openai.NotFoundError):
        ours.completions.create(model="gpt", prompt="a")


def test_a_text_is_scored_by_its_echo(client):
    answer = post(client, prompt="ab😀c", max_tokens=0, echo=True, logprobs=2)
    choice = answer["choices"][0]
    assert (choice["text"], choice["logprobs"]["tokens"]) == ("ab😀c", ["a", "b", "😀", "c"])
    expected = WRITER.score("abc").log_probs.tolist()
    assert choice["logprobs"]["token_logprobs"] == [expected[0], expected[1], None, expected[2]]
    assert [len(top) if top else 0 for top in choice["logprobs"]["top_logprobs"]] == [2, 2, 0, 2]
    assert answer["warnings"] == ["dropped 1 characters that the model does not know: '😀'"]


def test_a_stop_string_ends_a_text(client):
    whole = alone("abc", 3, 80)
    choice = post(client, prompt="abc", max_tokens=80, seed=3, stop=whole[30:34])["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == (whole[: whole.index(whole[30:34])], "stop")


def test_sixty_four_concurrent_streams_get_the_texts_they_get_alone(client):
    def one(seed):
        return "".join(part["choices"][0]["text"] for part in events(client, prompt="abc", max_tokens=150, seed=seed))

    with ThreadPoolExecutor(64) as pool:
        assert list(pool.map(one, range(64))) == [alone("abc", seed, 150) for seed in range(64)]


def test_a_short_text_that_joins_a_long_one_ends_first():
    with running(lambda: served(hidden=256)) as client:
        ended = []

        def long():
            events(client, prompt="abc", max_tokens=5000, seed=1)
            ended.append("long")

        thread = threading.Thread(target=long)
        thread.start()
        wait_for(lambda: figure(client, "charlm_texts_active") == 1)
        short = post(client, prompt="abc", max_tokens=20, seed=2)["choices"][0]["text"]
        ended.append("short")
        thread.join()
        assert ended == ["short", "long"]
        writer = Writer(random_model(hidden=256))
        assert short == writer.complete("abc", Sampling(max_new_chars=20, seed=2)).completion


@pytest.mark.parametrize(
    ("body", "message", "param"),
    [
        ({"surprise": 2}, "surprise: unknown field", "surprise"),
        ({"best_of": 2}, "best_of: found 2, allowed is 1; best_of is not supported, use n", "best_of"),
        ({"suffix": "x"}, "suffix: not supported, allowed is null; the model writes from left to right only", "suffix"),
        ({"frequency_penalty": 2.5}, "frequency_penalty: found 2.5, allowed is -2 to 2", "frequency_penalty"),
        ({"presence_penalty": -3}, "presence_penalty: found -3.0, allowed is -2 to 2", "presence_penalty"),
        ({"logit_bias": {"a": 101}}, "logit_bias: found 101.0, allowed is -100 to 100", "logit_bias"),
        (
            {"logit_bias": {"50256": -100}},
            "logit_bias: found '50256', allowed are single characters that the model knows",
            "logit_bias",
        ),
        (
            {"stream": True, "stream_options": {"include_obfuscation": True}},
            "stream_options: include_obfuscation is not supported, allowed is false",
            "stream_options",
        ),
        ({"stream": True, "allowed": "😀"}, "allowed: the model knows none of the characters '😀'", "allowed"),
        ({"temperature": -1}, "temperature: found -1.0, allowed is 0 to 100", "temperature"),
        ({"temperature": "hot"}, "temperature: input should be a valid number", "temperature"),
        ({"max_tokens": -1}, "max_tokens: found -1, allowed is 0 to 20000", "max_tokens"),
        ({"max_tokens": 10**30}, f"max_tokens: found {10**30}, allowed is 0 to 20000", "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens: input should be a valid integer", "max_tokens"),
        ({"n": 0}, "n: found 0, allowed is 1 to 64", "n"),
        ({"n": 65}, "n: found 65, allowed is 1 to 64", "n"),
        ({"prompt": ["a"] * 65}, "prompt: found 65 prompts, allowed are at most 64", "prompt"),
        ({"prompt": ["a"] * 33, "n": 2}, "n: found 2, allowed is 1 to 1", "n"),
        ({"prompt": ["a"] * 10_001}, "prompt: found 10,001 entries, allowed are at most 10,000", "prompt"),
        ({"logit_bias": {"a": "b"}}, "logit_bias: found no number for 'a'", "logit_bias"),
        ({"prompt": []}, "prompt: found an empty list, allowed is a string or at least one", "prompt"),
        ({"prompt": 1}, "prompt: input should be a valid string", "prompt"),
        (
            {"prompt": [1, 2]},
            "prompt: found token ids, allowed is text: a string or a list of strings",
            "prompt",
        ),
        (
            {"prompt": [[1, 2], [3]]},
            "prompt: found token ids, allowed is text: a string or a list of strings",
            "prompt",
        ),
        ({"prompt": "a" * 100_001}, "prompt: found 100,001 characters, allowed are at most 100,000", "prompt"),
        ({"stop": ["a"] * 17}, "stop: found 17 strings, allowed are at most 16", "stop"),
        ({"stop": ""}, "stop: found a string of 0 characters, allowed are 1 to 1000", "stop"),
        ({"allowed": "😀"}, "allowed: the model knows none of the characters '😀'", "allowed"),
        ({"seed": -1}, "seed: input should be greater than or equal to 0", "seed"),
        ({"stream_options": {}}, "stream_options: found without stream, allowed only with stream: true", None),
    ],
)
def test_a_wrong_field_is_named(client, body, message, param):
    error = post(client, 400, **{"prompt": "abc", **body})["error"]
    expected = (message, param or message.partition(":")[0], "invalid_request_error")
    assert (error["message"], error["param"], error["type"]) == expected


@pytest.mark.parametrize(
    "body",
    [
        {f"k{number}": 1 for number in range(100_000)},
        {"prompt": [{}] * 100_000},
        {"stop": [1] * 9000},
        {"logit_bias": {str(number): "x" for number in range(9000)}},
        {"model": "m" * 1_000_000},
        {"m" * 1_000_000: 1},
    ],
    ids=["fields", "prompts", "stops", "biases", "model", "name"],
)
def test_the_response_to_many_errors_is_short_and_quick(client, body, monkeypatch):
    counts = []
    original = RequestValidationError.errors

    def errors(self):
        counts.append(len(original(self)))
        return original(self)

    monkeypatch.setattr(RequestValidationError, "errors", errors)
    answer = client.post("/v1/completions", json=body)
    assert answer.status_code in (400, 404)
    assert len(answer.content) < 1000
    assert sum(counts) <= 2


def test_null_means_the_default_in_every_field(client):
    every = dict.fromkeys(CompletionRequest.model_fields) | {"prompt": "abc", "seed": 3}
    assert post(client, **every)["choices"] == post(client, prompt="abc", seed=3)["choices"]


def test_openai_penalties_and_biases_act(client):
    options = {"frequency_penalty": 0.5, "presence_penalty": 1, "logit_bias": (("a", -100.0), ("b", 3.0))}
    expected = alone("abc", 3, 150, **options)
    assert expected != alone("abc", 3, 150)
    body = {"prompt": "abc", "max_tokens": 150, "seed": 3, **options, "logit_bias": {"a": -100, "b": 3}}
    assert post(client, **body)["choices"][0]["text"] == expected
    assert "".join(part["choices"][0]["text"] for part in events(client, **body)) == expected


def test_an_unknown_path_names_the_known_ones(client):
    for method, path in (("POST", "/v1/chat/completions"), ("GET", "/v1/models/gpt")):
        answer = client.request(method, path, json={})
        assert answer.status_code == 404
        assert answer.json()["error"]["type"] == "invalid_request_error"
    assert (
        "POST /v1/completions completes text" in client.post("/v1/chat/completions", json={}).json()["error"]["message"]
    )


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff\xfe", b'{"prompt": NaN', b'{"prompt": "\\ud800"}'])
def test_an_invalid_request_is_refused(client, body):
    answer = client.post("/v1/completions", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["message"]

import contextlib
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from serving.conftest import running, served, wait_for
from support.models import random_model

from pipeline.generation.text import Writer
from pipeline.params.sampling import Sampling
from pipeline.serving.completions import CompletionRequest, Limits

WRITER = Writer(random_model())


def alone(prompt, seed, max_tokens, **options):
    return WRITER.complete(prompt, Sampling(max_new_chars=max_tokens, seed=seed, **options)).completion


def post(client, status=200, headers=None, **body):
    answer = client.post("/v1/completions", json=body, headers=headers)
    assert answer.status_code == status, answer.text
    return answer.json()


def events(client, **body):
    with client.stream("POST", "/v1/completions", json=body | {"stream": True}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def figure(client, name):
    text = client.get("/metrics").text
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))


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
    choices = post(client, prompt=["abc", "de"], n=4, max_tokens=10, seed=3)["choices"]
    assert sorted(read) == [2, 3]
    assert choices[0]["text"] == alone("abc", 3, 10)
    assert choices[4]["text"] == alone("de", 3, 10)


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


def test_a_body_that_is_too_large_is_refused_with_and_without_its_length(client):
    large = b'{"prompt": "' + b"a" * 50_000_000 + b'"}'
    with contextlib.suppress(httpx.WriteError):  # the server may hang up before all was sent
        assert client.post("/v1/completions", content=large).status_code == 413
    chunks = (large[at : at + 100_000] for at in range(0, len(large), 100_000))
    with contextlib.suppress(httpx.WriteError):
        assert client.post("/v1/completions", content=chunks).status_code == 413
    assert client.get("/healthz").json() == {"status": "ok"}


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_disconnects_frees_its_place(stream):
    body = {"prompt": "abc", "max_tokens": 20_000, "stream": stream}
    with running(lambda: served(hidden=512)) as client:
        other = httpx.Client(base_url=client.base_url)
        with (
            contextlib.suppress(httpx.ReadTimeout),
            other.stream("POST", "/v1/completions", json=body, timeout=0.3) as one,
        ):
            lines = one.iter_lines()  # kept: the stream ends with it
            next(lines)
            assert figure(client, "charlm_streams") == 1
        other.close()
        wait_for(lambda: figure(client, "charlm_texts_active") == 0)
        wait_for(lambda: figure(client, "charlm_streams") == 0)
        assert figure(client, "charlm_characters_total") < 20_000


def test_a_client_that_reads_slowly_gets_all(client):
    text = ""
    with client.stream(
        "POST", "/v1/completions", json={"prompt": "a", "max_tokens": 300, "seed": 1, "stream": True}
    ) as one:
        for line in one.iter_lines():
            time.sleep(0.02)
            if line.startswith("data: {"):
                text += json.loads(line[6:])["choices"][0]["text"]
    assert text == alone("a", 1, 300)


def test_a_full_queue_answers_429_with_retry_after():
    with (
        running(lambda: served(hidden=256), limits=Limits(in_flight=1, queue=1)) as client,
        ThreadPoolExecutor(12) as pool,
    ):

        def ask(seed):
            answer = client.post("/v1/completions", json={"prompt": "abc", "max_tokens": 2000, "seed": seed})
            return answer.status_code, answer.headers.get("retry-after")

        answers = list(pool.map(ask, range(12)))
        assert set(answers) == {(200, None), (429, "1")}
        assert post(client, 429, prompt="abc", n=3)["error"]["code"] == "queue_full"
        assert post(client, prompt="abc", max_tokens=5)["choices"]


def test_a_request_has_a_time_limit():
    with running(lambda: served(hidden=256), limits=Limits(seconds=0.1)) as client:
        assert post(client, 503, prompt="abc", max_tokens=20_000)["error"]["code"] == "timeout"
        with client.stream(
            "POST", "/v1/completions", json={"prompt": "a", "max_tokens": 20_000, "stream": True}
        ) as one:
            last = [line for line in one.iter_lines() if line][-1]
        assert json.loads(last.removeprefix("data: "))["error"]["message"] == "the request took too long"
        wait_for(lambda: figure(client, "charlm_texts_active") == 0)


def test_a_server_with_a_key_requires_it():
    with running(key="secret") as client:
        assert post(client, 401, prompt="abc")["error"]["code"] == "invalid_api_key"
        assert post(client, 401, headers={"authorization": "Bearer wrong"}, prompt="abc")
        assert post(client, 401, headers={"authorization": "Basic secret"}, prompt="abc")
        assert post(client, headers={"authorization": "Bearer secret"}, prompt="abc", max_tokens=1)
        assert [client.get(path).status_code for path in ("/healthz", "/", "/metrics", "/card")] == [200, 200, 401, 401]


def test_without_a_key_other_host_names_are_refused(client):
    assert client.get("/card", headers={"host": "evil.example"}).status_code == 403
    assert client.get("/card", headers={"host": "localhost:80"}).status_code == 200
    assert client.get("/card", headers={"host": "[::1]:8000"}).status_code == 200


def test_responses_have_security_headers(client):
    headers = client.get("/").headers
    assert headers["content-security-policy"].startswith("default-src 'self'")
    assert headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in client.get("/card", headers={"origin": "http://other"}).headers
    with running(cors=["http://other"]) as open_client:
        answer = open_client.get("/card", headers={"origin": "http://other"})
        assert answer.headers["access-control-allow-origin"] == "http://other"


def test_a_new_champion_is_loaded_without_dropping_a_request():
    versions = iter(["1", "2"])
    models = {"1": 0, "2": 9}

    def load():
        version = next(versions, None)
        if version is None:
            from pipeline.core.errors import UserError

            raise UserError("models/charlm/weights.safetensors: damaged or cut off")
        return served(seed=models[version], version=version, hidden=128)

    key = {"authorization": "Bearer k"}
    with running(load, key="k") as client:
        client.headers.update(key)
        first = Writer(random_model(seed=0, hidden=128))
        with ThreadPoolExecutor() as pool:
            long = pool.submit(post, client, prompt="abc", max_tokens=20_000, seed=1)
            wait_for(lambda: figure(client, "charlm_texts_active") == 1)
            assert client.post("/admin/reload").json() == {"before": "1", "now": "2"}
            expected = first.complete("abc", Sampling(max_new_chars=20_000, seed=1)).completion
            assert long.result()["choices"][0]["text"] == expected
        assert post(client, prompt="abc", max_tokens=50, seed=1)["choices"][0]["text"] != expected[:50]
        refused = client.post("/admin/reload")
        assert (refused.status_code, refused.json()["error"]["message"][:14]) == (400, "models/charlm/")
        assert post(client, prompt="abc", max_tokens=5)["system_fingerprint"] == "charlm-2"


def test_reload_needs_a_key(client):
    assert client.post("/admin/reload").status_code == 403


def test_figures_are_counted(client):
    before = figure(client, "charlm_characters_total")
    post(client, prompt="abc", max_tokens=25)
    post(client, 400, prompt="abc", n=0)
    assert figure(client, "charlm_characters_total") == before + 25
    text = client.get("/metrics").text
    assert 'charlm_requests_total{route="/v1/completions",status="400"}' in text
    assert "charlm_first_character_seconds_bucket" in text
    assert client.get("/readyz").json() == {"status": "ready", "model": "charlm"}


def test_the_docs_load_nothing_from_other_hosts(client):
    page = client.get("/docs").text
    assert "http" not in page.replace("http-equiv", "")
    assert client.get("/swagger/swagger-ui-bundle.js").status_code == 200


def test_nothing_that_the_schema_allows_is_a_server_error(client):
    schema = schemathesis.openapi.from_url(f"{client.base_url}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) > 5
    for operation in operations:

        @given(operation.as_strategy())
        @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
        def is_well(case):
            assert case.call(base_url=str(client.base_url)).status_code < 500

        is_well()

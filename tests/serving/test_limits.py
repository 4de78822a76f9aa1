"""What the server refuses, limits, reloads and counts."""

import contextlib
import json
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from serving.conftest import figure, post, running, served, wait_for
from support.models import random_model

from pipeline.generation.text import Writer
from pipeline.params.sampling import Sampling
from pipeline.serving.completions import Limits

WRITER = Writer(random_model())


def alone(prompt, seed, max_tokens, **options):
    return WRITER.complete(prompt, Sampling(max_new_chars=max_tokens, seed=seed, **options)).completion


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


SAME = ("LOCALHOST", "LocalHost:80", "localhost.", "[::1]", "[0:0:0:0:0:0:0:1]:1", "127.0.0.1")
OTHER = (
    *("[::1]evil.com", "localhost:evil.com", "localhost@evil.com", "localhost:80:80", "evil.com:localhost"),
    *("localhost evil.com", "localhost,evil.com", "localhost/", "[localhost]", "[::1%25evil.com]", "[::1", "::1"),
    *("[]", ":80", ""),
)


@pytest.mark.parametrize("host", SAME)
def test_this_machines_names_are_accepted_in_any_form(client, host):
    assert client.get("/card", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", OTHER)
def test_what_only_resembles_this_machines_name_is_refused(client, host):
    assert client.get("/card", headers={"host": host}).status_code == 403


ORIGIN = {"origin": "http://other"}


def test_a_browser_may_ask_without_a_key_whether_it_may(client):
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
    with running(cors=["http://other"], key="secret") as open_client:
        answer = open_client.options("/v1/completions", headers=ORIGIN | asked)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "http://other"
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert "authorization" in answer.headers["access-control-allow-headers"]
        evil = open_client.options("/v1/completions", headers={"origin": "http://evil"} | asked)
        assert "access-control-allow-origin" not in evil.headers
        # Without being asked by a browser, OPTIONS needs the key as everything else.
        assert open_client.options("/v1/completions").status_code == 401


def test_a_browser_sees_refusals_and_failures(monkeypatch):
    with running(cors=["http://other"], key="k", limits=Limits(in_flight=1, queue=0)) as client:

        def ask(status, **options):
            answer = client.post("/v1/completions", headers=ORIGIN | options.pop("headers", {}), **options)
            assert answer.status_code == status, answer.text
            assert answer.headers["access-control-allow-origin"] == "http://other"
            assert answer.json()["error"]["message"]
            return answer

        key = {"authorization": "Bearer k"}
        ask(401, json={})
        ask(413, headers=key, content=b"a" * 2_000_001)
        ask(400, headers=key, json={"n": 0})
        busy = ask(429, headers=key, json={"n": 2})
        assert "retry-after" in busy.headers["access-control-expose-headers"].lower()
        monkeypatch.setattr(Writer, "check", lambda *_: 1 / 0)
        failed = ask(500, headers=key, json={})
        assert failed.json()["error"]["code"] == "internal"
        assert failed.headers["x-content-type-options"] == "nosniff"


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

"""The log of requests and their count."""

import contextlib
import json
import logging
import logging.config
import re

import httpx
import pytest
from serving.conftest import running, served, wait_for

from pipeline.cli.serve import Formatter, log_config
from pipeline.serving.middleware import ACCESS, SERVER


@pytest.fixture
def lines():
    """The lines that the server logs, as they would be printed."""
    found = []

    class Handler(logging.Handler):
        def emit(self, record):
            found.append(self.format(record))

    handler = Handler()
    handler.setFormatter(Formatter(log_config(access=True)["formatters"]["line"]["fmt"]))
    before = ACCESS.level, SERVER.level
    for logger in (ACCESS, SERVER):
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
    yield found
    for logger, level in zip((ACCESS, SERVER), before, strict=True):
        logger.removeHandler(handler)
        logger.setLevel(level)


LINE = (
    r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO charlm\.access client=127\.0\.0\.1 "
    r"method=([A-Z]+) path=(\S+) status=(\d+) ms=(\d+\.\d)"
)


def test_a_line_has_time_path_status_and_latency_and_no_prompt(client, lines):
    body = {"prompt": "secret words", "max_tokens": 200}
    assert client.post("/v1/completions?prompt=secret", json=body).status_code == 200
    wait_for(lambda: len(lines) == 1)
    client.post("/v1/completions", json=body | {"stream": True})
    wait_for(lambda: len(lines) == 2)
    client.post("/v1/completions", json=body | {"n": 0})
    wait_for(lambda: len(lines) == 3)
    client.get("/no such%0Apath/" + "x" * 1000)
    wait_for(lambda: len(lines) == 4)
    found = [re.fullmatch(LINE, line).groups() for line in lines]
    assert [one[:3] for one in found[:3]] == [
        ("POST", "/v1/completions", "200"),
        ("POST", "/v1/completions", "200"),
        ("POST", "/v1/completions", "400"),
    ]
    assert found[3][1].startswith("/no%20such")
    assert len(found[3][1]) == 200
    assert not any("secret" in line or "\n" in line for line in lines)


def test_latency_includes_the_whole_stream(lines):
    with running(lambda: served(hidden=256)) as client:
        client.post("/v1/completions", json={"prompt": "abc", "max_tokens": 3000, "stream": True})
        wait_for(lambda: len(lines) == 1)
        client.get("/healthz")
        wait_for(lambda: len(lines) == 2)
    long, short = (float(re.fullmatch(LINE, line)[4]) for line in lines)
    assert long > 10 * short


def test_refusals_are_logged_and_counted(lines):
    with running(key="secret") as client:
        client.get("/card")
        wait_for(lambda: len(lines) == 1)
        figures = client.get("/metrics", headers={"authorization": "Bearer secret"}).text
        wait_for(lambda: len(lines) == 2)
    assert "path=/card status=401 " in lines[0]
    assert 'charlm_requests_total{route="none",status="401"} 1.0' in figures


def test_a_stream_whose_client_disconnects_is_499(lines):
    with running(lambda: served(hidden=512)) as client:
        body = {"prompt": "abc", "max_tokens": 20_000, "stream": True}
        with (
            contextlib.suppress(httpx.ReadTimeout),
            httpx.Client(base_url=client.base_url, timeout=5) as other,
            other.stream("POST", "/v1/completions", json=body) as one,
        ):
            next(one.iter_lines())
        wait_for(lambda: lines)
        assert " status=499 " in lines[0]


def test_a_reload_is_logged(lines):
    versions = iter(["1", "2"])
    with running(lambda: served(version=next(versions)), key="k") as client:
        assert client.post("/admin/reload", headers={"authorization": "Bearer k"}).status_code == 200
        wait_for(lambda: len(lines) == 2)
    assert lines[0].endswith("Z INFO charlm.server model reloaded: version 2, before 1")


def test_json_has_an_id_times_and_sizes_and_no_prompt(client, capsys):
    logging.config.dictConfig(log_config(access=True, form="json"))
    body = {"prompt": "secret words", "max_tokens": 20}
    answer = client.post("/v1/completions?prompt=secret", json=body)
    printed = []
    wait_for(lambda: printed.append(capsys.readouterr().out) or "status" in "".join(printed))
    SERVER.warning("a message\nof two lines")
    message = json.loads(capsys.readouterr().err)
    ACCESS.handlers.clear()
    SERVER.handlers.clear()
    (line,) = "".join(printed).splitlines()
    found = json.loads(line)
    assert found.pop("time").endswith("Z")
    assert found.pop("ms") > 0
    assert found == {
        "level": "INFO",
        "logger": "charlm.access",
        "id": answer.headers["x-request-id"],
        "client": "127.0.0.1",
        "method": "POST",
        "path": "/v1/completions",
        "status": 200,
        "request_bytes": len(answer.request.content),
        "response_bytes": len(answer.content),
    }
    assert message["message"] == "a message\nof two lines"


def test_requests_are_printed_only_if_wanted(capsys):
    for access, expected in ((True, 1), (False, 0)):
        logging.config.dictConfig(log_config(access=access))
        ACCESS.info("client=- method=GET path=/ status=200 ms=1.0")
        SERVER.info("model reloaded")
        printed = capsys.readouterr()
        assert (printed.out.count("path=/"), printed.err.count("model reloaded")) == (expected, 1)
    ACCESS.handlers.clear()
    SERVER.handlers.clear()

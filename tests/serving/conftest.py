import contextlib
import json
import threading
import time

import httpx
import pytest
import uvicorn
from support.models import random_model

from pipeline.generation.text import Writer
from pipeline.serving.application import make_application
from pipeline.serving.connections import ConnectionLimits, server_config
from pipeline.serving.model_source import Served, card_of


def served(seed=0, version="1", hidden=12, name="charlm", **options):
    model = random_model(seed=seed, hidden=hidden, **options)
    return Served(Writer(model), card_of(model) | {"name": name, "version": version})


# With limits, httpcore's pool may close a connection that it has just given to another thread's request:
# https://github.com/encode/httpcore/issues/1110
UNLIMITED = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=None)


@contextlib.contextmanager
def running(load=served, connections=None, **options):
    """A real server on a free port; gives a client for it."""
    app = make_application(load, **options)
    config = server_config(
        app, connections or ConnectionLimits(), port=0, log_level="error", timeout_graceful_shutdown=30
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, limits=UNLIMITED) as client:
            client.state, client.server, client.thread = app.state.server, server, thread
            yield client
    finally:
        server.should_exit = True
        thread.join()


def wait_for(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(scope="module")
def client():
    with running() as one:
        yield one


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

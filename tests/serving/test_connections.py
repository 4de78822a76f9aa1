"""Connections whose clients are slow, idle, too many, or send what is not HTTP."""

import gc
import json
import logging
import resource
import socket
import time
from contextlib import contextmanager

import pytest
from serving.conftest import figure, running, served, wait_for

from pipeline.serving import connections
from pipeline.serving.completions import Limits
from pipeline.serving.connections import OTHER_FILES, ConnectionLimits, within_open_files

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = (
    b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
)
IMPATIENT = ConnectionLimits(header_seconds=0.3, body_seconds=0.3, send_seconds=0.5, keep_alive=1)


@contextmanager
def connected(client, *, receives=None):
    """A bare connection to the server; `receives` limits the bytes that wait to be read."""
    with socket.socket() as one:
        if receives:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
        one.settimeout(20)
        one.connect(("127.0.0.1", client.base_url.port))
        yield one


def rest(one):
    """All that the server sends until it closes the connection."""
    received = b""
    try:
        while part := one.recv(65536):
            received += part
    except ConnectionResetError:
        pass
    return received


def status(one):
    return one.recv(65536).split(b" ")[1]


@pytest.fixture(scope="module")
def impatient():
    with running(connections=IMPATIENT) as one:
        yield one


@pytest.fixture(scope="module")
def patient():
    with running(connections=ConnectionLimits(header_bytes=4096)) as one:
        yield one


def test_a_connection_on_which_nothing_comes_is_closed(impatient):
    with connected(impatient) as one:
        assert rest(one) == b""


def test_slow_headers_are_ended(impatient):
    with connected(impatient) as one:
        begun = time.monotonic()
        answer = b""
        for byte in GET:  # a byte now and then does not help
            try:
                one.sendall(bytes([byte]))
            except OSError:
                break
            time.sleep(0.05)
        answer = rest(one)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - begun < 5 + 0.05 * len(GET)
    with connected(impatient) as one:
        one.sendall(GET[:-4])
        answer = rest(one)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"] == "the request took too long to arrive"


def test_a_slow_body_is_ended(impatient):
    with connected(impatient) as one:
        one.sendall(POST % 100 + b'{"prompt": ')
        assert rest(one).startswith(b"HTTP/1.1 408 ")
    with connected(impatient) as one:  # chunks that never end, after a response
        one.sendall(b"POST /no HTTP/1.1\r\nHost: evil\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        assert rest(one).startswith(b"HTTP/1.1 403 ")


def test_an_idle_connection_is_closed_after_its_time(impatient):
    with connected(impatient) as one:
        begun = time.monotonic()
        for _ in range(2):
            one.sendall(GET)
            assert status(one) == b"200"
            time.sleep(0.5)  # longer than headers and body may take
        assert rest(one) == b""
        assert time.monotonic() - begun > 1
    with connected(impatient) as one:  # the next request's headers have their own time
        one.sendall(GET + GET[:5])
        assert rest(one).count(b"HTTP/1.1 ") == 2


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /" + b"a" * 5000,
        b"GET / HTTP/1.1\r\nA: " + b"a" * 1_000_000,
        b"GET / HTTP/1.1\r\n" + b"a" * 1_000_000,
        b"GET / HTTP/1.1\r\n" + b"a:b\r\n" * 2000 + b"\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: " + b"a" * 300_000,
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"a" * 300_000,
    ],
    ids=["path", "value", "name", "many", "trailer", "extension"],
)
def test_headers_that_are_too_long_are_refused(patient, request_):
    with connected(patient) as one:
        try:
            for at in range(0, len(request_), 4096):
                one.sendall(request_[at : at + 4096])
        except OSError:
            pass
        answer = rest(one)
        # The connection may be reset before the response is read.
        assert answer == b"" or b"HTTP/1.1 431 " in answer or answer.startswith(b"HTTP/1.1 405 ")
    assert patient.get("/healthz").status_code == 200


def test_headers_within_the_limit_pass(patient):
    assert patient.get("/healthz", headers={"a": "a" * 3500}).status_code == 200
    answer = patient.get("/healthz", headers={"a": "a" * 4096})
    assert answer.status_code == 431
    assert answer.json()["error"]["message"] == "the path and headers have more than 4,096 bytes"


@pytest.mark.parametrize(
    "request_",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET http://[::1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET http://host HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        GET * 100,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused(patient, request_):
    with connected(patient) as one:
        one.sendall(request_)
        one.shutdown(socket.SHUT_WR)
        answer = rest(one)
    assert not answer or answer.split(b" ")[1][:1] in (b"4", b"2") or b" 431 " in answer
    assert b" 500 " not in answer
    assert patient.get("/healthz").status_code == 200


def test_a_second_host_header_is_refused(patient):
    with connected(patient) as one:
        one.sendall(GET[:-2] + b"Host: evil.com\r\n\r\n")
        assert status(one) == b"403"


def test_an_upgrade_is_answered_as_any_request(patient):
    with connected(patient) as one:
        one.sendall(GET[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n")
        assert status(one) == b"200"


def test_connections_that_wait_make_place_for_new_ones():
    with running(connections=ConnectionLimits(connections=10)) as client:
        idle = [socket.create_connection(("127.0.0.1", client.base_url.port)) for _ in range(50)]
        for one in idle[::2]:
            one.sendall(POST % 10 + b"{")  # a body that never ends
        assert all(client.get("/healthz").status_code == 200 for _ in range(20))
        idle[0].settimeout(20)
        assert rest(idle[0]) == b""
        for one in idle:
            one.close()


def test_a_connection_is_refused_only_if_all_others_are_being_answered():
    body = b'{"max_tokens": 20000, "n": 8}'
    with running(lambda: served(hidden=512), connections=ConnectionLimits(connections=2)) as client:
        busy = [socket.create_connection(("127.0.0.1", client.base_url.port)) for _ in range(2)]
        for one in busy:
            one.sendall(POST % len(body) + body)
        wait_for(lambda: client.state.batcher.active == 16)
        with connected(client) as one:
            answer = rest(one)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"too many connections" in answer
        for one in busy:
            one.close()
        wait_for(lambda: client.state.batcher.active == 0)
        assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize("stream", ["true", "false"])
def test_a_client_that_does_not_read_is_cut_off(impatient, stream):
    body = b'{"max_tokens": 1500, "n": 40, "logprobs": 9, "seed": 1, "stream": %s}' % stream.encode()
    with connected(impatient, receives=4096) as one:
        one.sendall(POST % len(body) + body)
        wait_for(lambda: impatient.state.budget.held > 0)
        wait_for(lambda: impatient.state.budget.held == 0, 30)
        assert figure(impatient, "charlm_streams") == 0
        assert figure(impatient, "charlm_texts_active") == 0
        answer = rest(one)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert not answer.endswith(b"0\r\n\r\n")


def test_a_stream_that_is_read_too_slowly_ends_with_an_error_event():
    body = b'{"max_tokens": 1500, "n": 40, "logprobs": 9, "seed": 1, "stream": true}'
    with running(limits=Limits(seconds=3)) as client, connected(client, receives=4096) as one:
        one.sendall((POST % len(body)).replace(b"Host:", b"Connection: close\r\nHost:") + body)
        answer, begun = b"", time.monotonic()
        while time.monotonic() < begun + 2:  # slowly
            answer += one.recv(4096)
            time.sleep(0.05)
        wait_for(lambda: time.monotonic() > begun + 2.8)
        answer += rest(one)
        assert b'"message":"the request took too long"' in answer[-1000:]
        assert b"[DONE]" not in answer
        wait_for(lambda: figure(client, "charlm_streams") == 0)
        assert client.state.budget.held == 0


def test_a_client_that_does_not_read_does_not_delay_a_stop(monkeypatch):
    monkeypatch.setattr(connections, "STOPPING_SECONDS", 0.5)
    body = b'{"max_tokens": 1500, "n": 40, "logprobs": 9, "seed": 1, "stream": true}'
    with (
        running() as client,
        connected(client, receives=4096) as one,
        connected(client) as slow,
        connected(client) as idle,
    ):
        one.sendall(POST % len(body) + body)
        slow.sendall(POST % 10 + b"{")
        idle.sendall(b"GET")
        wait_for(lambda: client.state.budget.held > 0)
        wait_for(lambda: client.state.batcher.active == 0)
        client.server.should_exit = True
        begun = time.monotonic()
        client.thread.join(60)
        assert time.monotonic() - begun < 15
        assert not client.server.server_state.connections


def test_connections_are_within_the_limit_of_open_files(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (200, 4096))
    assert within_open_files(512) == 200 - OTHER_FILES
    assert within_open_files(20) == 20
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert within_open_files(512) == 512


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_with_requests_waiting_is_not_an_error_of_the_server(patient, caplog, stream):
    body = json.dumps({"max_tokens": 20_000, "stream": stream}).encode()
    errors = logging.getLogger("uvicorn.error")
    errors.addHandler(caplog.handler)
    try:
        with connected(patient) as one:
            one.sendall(2 * (POST % len(body) + body))
            wait_for(lambda: figure(patient, "charlm_texts_active") == 1)
        wait_for(lambda: figure(patient, "charlm_texts_active") == 0)
        wait_for(lambda: not patient.state.budget.held)
        time.sleep(0.1)
        gc.collect()  # asyncio reports a task's error when the task is gone
    finally:
        errors.removeHandler(caplog.handler)
    assert caplog.text == ""

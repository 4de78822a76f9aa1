"""`charlm serve` as a process of its own, under clients that are slow, idle, gone, hostile, or many.

    pytest -s tests/faults/test_server.py

Meanwhile /healthz has to answer on new connections, and memory, threads and open files have limits. Afterwards a text
is the same as before, and SIGTERM ends the process without a traceback. With -s each test prints what it measured.
CHARLM_FAULT_SEED repeats a run with the printed seed; CHARLM_FAULT_REQUESTS is the number of requests (20,000).
"""

import os
import random
import secrets
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from support.servers import HEALTH, HEAVIEST, TEXT, read_until, request, serving, wait_for, watched

pytestmark = pytest.mark.slow

SEED = int(os.environ.get("CHARLM_FAULT_SEED") or secrets.randbelow(1 << 32))
REQUESTS = int(os.environ.get("CHARLM_FAULT_REQUESTS") or 20_000)
DISCONNECTS = 500
RELOADS = 50
IMPATIENT = ("--header-seconds=1", "--body-seconds=1", "--send-seconds=1", "--keep-alive=2", "--connections=100")
LONG = {"prompt": "abc", "max_tokens": 2000, "n": 20, "logprobs": 10, "stream": True}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    print(f"\nCHARLM_FAULT_SEED={SEED}")
    with serving(tmp_path_factory.mktemp("server"), *IMPATIENT) as one:
        yield one


def test_slow_headers_and_bodies(server):
    """200 connections that send a byte now and then, forever."""
    begun = [HEALTH[:20], request({"prompt": "a" * 1000})[:-900]] * 100
    with watched(server, "slow headers and bodies"):
        connections = []
        for part in begun:
            connections.append(server.connect())
            connections[-1].sendall(part)
        end = time.monotonic() + 10
        while connections:
            assert time.monotonic() < end
            time.sleep(0.1)
            connections = [one for one in connections if is_open(one)]


def is_open(connection):
    """Send a byte and return whether the server still takes it."""
    try:
        connection.sendall(b"a")
        connection.setblocking(False)
        with suppress(BlockingIOError):
            while connection.recv(4096):
                pass
            return False
        connection.settimeout(10)
    except OSError:
        return False
    return True


@pytest.mark.parametrize("stream", [True, False])
def test_clients_that_do_not_read(server, stream):
    with watched(server, f"clients that do not read, {'streams' if stream else 'whole'}"):
        connections = [server.connect(receives=4096) for _ in range(6)]
        for one in connections:
            one.sendall(request(LONG | {"stream": stream}))
        wait_for(lambda: server.figure("charlm_texts") > 0)
        wait_for(server.is_quiet)
        for one in connections:
            one.close()


def test_idle_connections_with_few_open_files(tmp_path):
    with serving(tmp_path, files=200) as server, watched(server, "300 idle connections, 200 open files"):
        connections = [server.connect() for _ in range(300)]
        time.sleep(3)
        assert server.ask(HEALTH)[0] == 200
        for one in connections:
            one.close()


def test_random_disconnects(server):
    """At a random moment: in the headers, in the body, while it is generated, in the stream."""
    chance = random.Random(SEED)
    moments = [(*(chance.random() for _ in range(2)), *chance.choices((True, False), k=2)) for _ in range(DISCONNECTS)]

    def disconnect(moment):
        share, seconds, stream, cut = moment
        sent = request(LONG | {"stream": stream, "n": 3, "max_tokens": 500})
        with suppress(OSError), server.connect() as one:
            one.sendall(sent[: int(len(sent) * share)] if cut else sent)
            time.sleep(seconds / 10)
            if seconds < 0.5:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset

    with watched(server, f"{DISCONNECTS} disconnects, seed {SEED}"), ThreadPoolExecutor(16) as pool:
        list(pool.map(disconnect, moments))


HOSTILE = (
    b"\0" * 1000,
    b"GET / HTTP/1.1\r\nA: " + b"a" * 10_000_000,
    b"GET /" + b"a" * 10_000_000,
    b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 1_000_000,
    b"GET http://[ HTTP/1.1\r\n\r\n",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: " + b"a" * 10_000_000,
    b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
    HEALTH * 1000,
    request(b"[" * 1_900_000),
    request(b'{"prompt":' * 190_000),
    request(b'{"seed":' + b"9" * 1_000_000 + b"}"),
    request(b"{" + b",".join(b'"k%d":1' % number for number in range(150_000)) + b"}"),
    request(b'{"prompt":[' + b",".join([b"{}"] * 600_000) + b"]}"),
    request({"prompt": "a", "logit_bias": {str(number): "x" for number in range(100_000)}}),
    request({"prompt": ["\u4e00" * 100_000] * 6, "max_tokens": 1}),
    request({"model": "a" * 1_000_000}),
    request({"prompt": "The", "n": 64, "logprobs": 20, "max_tokens": 20000, "seed": 1}),
    request({"prompt": ["a" * 100_000] * 4, "echo": True, "logprobs": 20, "max_tokens": 0}),
    request({}, headers="Expect: 100-continue\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"),
    request({}, path="/admin/reload/../../../etc/passwd"),
    request(path="/page/..%2f..%2f..%2fmiddleware.py"),
)


def test_hostile_requests(server):
    statuses = []

    def attack(sent):
        with server.connect() as one, suppress(OSError):
            one.sendall(sent)
            statuses.append(int(read_until(one, b"\r\n").split(b" ")[1]))

    with watched(server, "hostile requests"), ThreadPoolExecutor(4) as pool:
        list(pool.map(attack, HOSTILE * 3))
    assert len(statuses) > len(HOSTILE)
    assert not [status for status in statuses if status >= 500]


def test_fields_of_wrong_types(server):
    chance = random.Random(SEED)
    names = "model prompt max_tokens temperature top_p n stop seed logprobs echo stream stream_options logit_bias"
    others = "best_of suffix user top_k min_p repetition_window ngram_weight allowed x"
    names = f"{names} {others}".split()

    def value(depth=0):
        kinds = [None, True, 0, -1, 7, 2**63, 10**300, 0.5, 1e308, "", "a", "\0\u2403", "a" * 5000, [], {}]
        if depth < 3:
            kinds += [[value(depth + 1) for _ in range(chance.randrange(4))], {chance.choice(names): value(depth + 1)}]
        return chance.choice(kinds)

    bodies = [
        {"max_tokens": 5, "n": 1} | {chance.choice(names): value() for _ in range(chance.randrange(1, 4))}
        for _ in range(500)
    ]
    with watched(server, f"500 bodies with wrong types, seed {SEED}"), server.connect() as one:
        for body in bodies:
            status, _ = server.ask(request(body | ({"max_tokens": 5} if body.get("max_tokens") == 7 else {})), one)
            assert status in (200, 400, 404), body


def test_many_requests(server):
    """On 16 connections, each with its own random requests."""
    kinds = {
        HEALTH: 200,
        request(TEXT | {"max_tokens": 4}): 200,
        request(TEXT | {"max_tokens": 2, "stream": True}): 200,
        request(path="/card"): 200,
        request({"n": 0}): 400,
        request(path="/no"): 404,
    }

    def ask(seed):
        chance = random.Random(f"{SEED} {seed}")
        with server.connect() as one:
            for _ in range(REQUESTS // 16):
                sent = chance.choice(list(kinds))
                assert server.ask(sent, one)[0] == kinds[sent]

    with watched(server, f"{REQUESTS} requests, seed {SEED}"), ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, range(16)))


def test_reloads_under_load(server):
    before = server.text()
    ended = threading.Event()

    def ask():
        count = 0
        while not ended.is_set():
            assert server.text() == before
            count += 1
        return count

    with watched(server, f"{RELOADS} reloads under load"), ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        try:
            for _ in range(RELOADS):
                assert server.ask(request({}, path="/admin/reload"))[0] == 200
        finally:
            ended.set()
        assert all(one.result() for one in asking)


@pytest.mark.parametrize("stream", [True, False])
def test_the_heaviest_request(server, stream):
    with watched(server, f"the heaviest request, {'streamed' if stream else 'whole'}"):
        status, body = server.ask(request(HEAVIEST | {"stream": stream}))
        assert status == 200
        assert len(body) > 15_000_000


def test_a_stop_does_not_wait_for_clients(tmp_path):
    """Idle, slow and silent clients are there when SIGTERM comes; limits are the default ones."""
    kinds = [b"", b"GET /", request({"prompt": "a"})[:-1], request(LONG | {"n": 10})]
    with serving(tmp_path) as server:
        connections = [server.connect(receives=4096) for _ in range(5 * len(kinds))]
        for one, part in zip(connections, kinds * 5, strict=True):
            one.sendall(part)
        wait_for(lambda: server.figure("charlm_texts") > 0)
        server.process.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        # If it waited for them it would end after 30 seconds, and say so in the log, which `serving` checks.
        assert server.process.wait(60) in (0, -signal.SIGTERM)
        print(f"stopped in {time.monotonic() - begun:.1f} s")
        for one in connections:
            one.close()

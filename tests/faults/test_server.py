"""`charlm serve` as a process of its own, under clients that are slow, idle, gone, hostile, or many.

    pytest -s tests/faults/test_server.py

Meanwhile /healthz has to answer on new connections, and memory, threads and open files have limits. Afterwards a text is
the same as before, and SIGTERM ends the process without a traceback. CHARLM_SEED repeats a run: -s prints its seed.
"""

import json
import os
import random
import re
import resource
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from support.models import random_model

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SEED = int(os.environ.get("CHARLM_SEED") or secrets.randbelow(1 << 32))
REQUESTS = int(os.environ.get("CHARLM_REQUESTS") or 20_000)
DISCONNECTS = 500
RELOADS = 50
# Limits while a server is attacked.
MOST_MEMORY, MOST_THREADS, MOST_FILES = 200_000_000, 24, 16
HEALTH_SECONDS = 10.0
IMPATIENT = ("--header-seconds=1", "--body-seconds=1", "--send-seconds=1", "--keep-alive=2", "--connections=100")
TEXT = {"prompt": "abc", "max_tokens": 40, "seed": 3}
LONG = {"prompt": "abc", "max_tokens": 2000, "n": 20, "logprobs": 10, "stream": True}
# As much as the default limits allow in one response.
HEAVIEST = {"prompt": "abc", "max_tokens": 800, "n": 64, "logprobs": 20}


def request(body=None, *, method=None, path="/v1/completions", headers=""):
    content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    method = method or ("GET" if body is None else "POST")
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer k\r\n{headers}"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content


HEALTH = request(path="/healthz")


class Server:
    """A running server; `ask` sends a request on a new connection, or on `one`."""

    def __init__(self, process, port):
        self.process = process
        self.port = port
        self.seen = psutil.Process(process.pid)

    def connect(self, receives=None):
        one = socket.socket()
        if receives:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
        one.settimeout(HEALTH_SECONDS * 3)
        one.connect(("127.0.0.1", self.port))
        return one

    def ask(self, sent, one=None):
        """Return the status and the body of the response to `sent`."""
        if one is None:
            with self.connect() as own:
                return self.ask(sent, own)
        one.sendall(sent)
        head, _, body = read_until(one, b"\r\n\r\n").partition(b"\r\n\r\n")
        parts, length = [body], re.search(rb"content-length: (\d+)", head)
        if length:
            while sum(map(len, parts)) < int(length[1]):
                parts.append(one.recv(65536))
        else:  # chunked
            while not (parts[-1] if len(parts[-1]) > 6 else b"".join(parts[-6:])).endswith(b"0\r\n\r\n"):
                parts.append(one.recv(65536))
        return int(head.split(b" ")[1]), b"".join(parts)

    def figure(self, name):
        text = self.ask(request(path="/metrics"))[1].decode()
        return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))

    def text(self):
        status, body = self.ask(request(TEXT))
        assert status == 200
        return json.loads(body)["choices"]

    def is_quiet(self):
        return self.figure("charlm_streams") == self.figure("charlm_texts") == 0


def read_until(connection, end):
    received = b""
    while end not in received:
        part = connection.recv(65536)
        if not part:
            raise ConnectionResetError
        received += part
    return received


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@contextmanager
def serving(folder, *options, files=1024):
    """A server with a model of random weights; it has to stop at SIGTERM, soon and in silence."""
    if not (folder / "models").exists():
        random_model(characters="".join(map(chr, range(32, 127))), hidden=64).save(folder / "models/charlm")
    log = folder / "log"
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.cli.app", "serve", "--port", "0", *options],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT), "CHARLM_API_KEY": "k"},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files)),  # noqa: PLW1509
        )
    try:
        server = Server(process, int(re.search(r"http://[^:]+:(\d+)", process.stdout.readline())[1]))
        before = server.text()
        server.ask(request(HEAVIEST | {"n": 1, "max_tokens": 50, "echo": True}))  # what loads at the first use
        yield server
        if process.poll() is None:
            wait_for(server.is_quiet)
            assert server.text() == before
            process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (0, -signal.SIGTERM)
        unexpected = [line for line in log.read_text(encoding="utf-8").splitlines() if not EXPECTED.search(line)]
        assert unexpected == []
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


EXPECTED = re.compile(r"^model: models/charlm|INFO charlm.server model reloaded")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    print(f"\nCHARLM_SEED={SEED}")
    with serving(tmp_path_factory.mktemp("server"), *IMPATIENT) as one:
        yield one


@contextmanager
def watched(server, name):
    """Check that /healthz answers meanwhile, and the limits of memory, threads and open files."""
    memory, files = server.seen.memory_info().rss, server.seen.num_fds()
    peak, threads, times, failures = [memory], [0], [], []
    ended = threading.Event()

    def measure():
        while not ended.wait(0.02):
            peak[0] = max(peak[0], server.seen.memory_info().rss)
            threads[0] = max(threads[0], server.seen.num_threads())

    def ask():
        while not ended.wait(0.05):
            begun = time.monotonic()
            try:
                assert server.ask(HEALTH)[0] == 200
            except (OSError, AssertionError, ValueError) as error:
                failures.append(repr(error))
            times.append(time.monotonic() - begun)

    watchers = [threading.Thread(target=measure), threading.Thread(target=ask)]
    for watcher in watchers:
        watcher.start()
    begun = time.monotonic()
    try:
        yield
    finally:
        seconds = time.monotonic() - begun
        ended.set()
        for watcher in watchers:
            watcher.join()
    times.sort()
    print(
        f"{name}: {seconds:.1f} s, /healthz {len(times)} times, 99 % within {times[len(times) * 99 // 100] * 1000:.0f} ms, "
        f"memory +{(peak[0] - memory) / 1e6:.0f} MB, {threads[0]} threads"
    )
    assert failures == []
    assert times[-1] < HEALTH_SECONDS
    assert peak[0] - memory < MOST_MEMORY
    assert threads[0] < MOST_THREADS + 2 * (os.cpu_count() or 1)
    wait_for(lambda: server.seen.num_fds() <= files + MOST_FILES)
    wait_for(server.is_quiet)


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
        connections = [server.connect(receives=4096) for _ in range(16)]
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
    moments = [
        (chance.random(), chance.random(), chance.random() < 0.5, chance.random() < 0.5) for _ in range(DISCONNECTS)
    ]

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
    names = [
        *names.split(),
        *["best_of", "suffix", "user", "top_k", "min_p", "repetition_window", "ngram_weight", "allowed", "x"],
    ]

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
    with serving(tmp_path) as server:
        connections = [server.connect(receives=4096) for _ in range(40)]
        for one, part in zip(
            connections, [b"", b"GET /", request({"prompt": "a"})[:-1], request(LONG)] * 10, strict=True
        ):
            one.sendall(part)
        wait_for(lambda: server.figure("charlm_texts") > 0)
        server.process.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        assert server.process.wait(60) in (0, -signal.SIGTERM)
        print(f"stopped in {time.monotonic() - begun:.1f} s")
        assert time.monotonic() - begun < 25
        for one in connections:
            one.close()

"""`charlm serve` as a process of its own, and limits on what it does while it is attacked."""

import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import psutil

from support.models import random_model

ROOT = Path(__file__).parents[2]
# Limits while a server is attacked.
MOST_MEMORY, MOST_THREADS, MOST_FILES = 200_000_000, 24, 16
HEALTH_SECONDS = 10.0
TEXT = {"prompt": "abc", "max_tokens": 40, "seed": 3}
# As much as the default limits allow in one response.
HEAVIEST = {"prompt": "abc", "max_tokens": 800, "n": 64, "logprobs": 20}
# What a server may write to standard error.
EXPECTED = re.compile(r"^model: models/charlm|INFO charlm.server model reloaded")


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
                parts.append(receive(one))
        else:  # chunked
            while not (parts[-1] if len(parts[-1]) > 6 else b"".join(parts[-6:])).endswith(b"0\r\n\r\n"):
                parts.append(receive(one))
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


def receive(connection):
    part = connection.recv(65536)
    if not part:
        raise ConnectionResetError
    return part


def read_until(connection, end):
    received = b""
    while end not in received:
        received += receive(connection)
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
    slowest = f"/healthz {len(times)} times, 99 % within {times[len(times) * 99 // 100] * 1000:.0f} ms"
    used = f"memory +{(peak[0] - memory) / 1e6:.0f} MB, {threads[0]} threads"
    print(f"{name}: {seconds:.1f} s, {slowest}, {used}")  # noqa: T201
    assert failures == []
    assert times[-1] < HEALTH_SECONDS
    assert peak[0] - memory < MOST_MEMORY
    assert threads[0] < MOST_THREADS + 2 * (os.cpu_count() or 1)
    wait_for(lambda: server.seen.num_fds() <= files + MOST_FILES)
    wait_for(server.is_quiet)

import errno
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest
from serving.conftest import wait_for
from support.models import random_model

from pipeline.cli.serve import listen
from pipeline.core.errors import UserError

ROOT = Path(__file__).parents[2]


def serve(folder, *arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli.app", "serve", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_command_serves_and_a_stop_finishes_what_is_in_flight(tmp_path):
    random_model(hidden=256).save(tmp_path / "models/charlm")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = serve(tmp_path, "--port", str(port), "--access-log")
    assert process.stdout.readline().startswith(f"charlm: models/charlm at http://127.0.0.1:{port}/")
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        wait_for(lambda: _answers(client), 30)
        body = {"prompt": "abc", "max_tokens": 6000, "seed": 1, "stream": True}
        with client.stream("POST", "/v1/completions", json=body) as one:
            lines = one.iter_lines()
            next(lines)
            process.send_signal(signal.SIGTERM)
            rest = [line for line in lines if line]
    assert rest[-1] == "data: [DONE]"
    assert process.wait(30) in (0, -signal.SIGTERM)
    assert process.stderr.read() == "model: models/charlm\n"
    logged = process.stdout.read().splitlines()
    assert all(re.match(r"20\d\d-[-0-9]+T[:.0-9]+Z INFO charlm.access client=127.0.0.1 method=", one) for one in logged)
    assert " path=/v1/completions status=200 ms=" in logged[-1]


def test_a_port_in_use_is_one_line_before_the_model_is_loaded(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = serve(tmp_path, "--port", str(port))  # there is no model either: the port is looked at first
        message = f"{port} on 127.0.0.1 is in use by another process; choose another, or --port 0 for any free one"
        assert process.communicate()[1] == f"error: --port: {message}\n"
        assert process.returncode == 2


def test_port_0_is_a_free_one_and_ctrl_c_ends_with_0(tmp_path):
    random_model().save(tmp_path / "models/charlm")
    process = serve(tmp_path, "--port", "0")
    address = re.search(r"http://127.0.0.1:(\d+)/", process.stdout.readline())[0]
    assert not address.endswith(":0/")
    assert httpx.get(f"{address}healthz", timeout=30).json() == {"status": "ok"}
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    assert process.stderr.read() == "model: models/charlm\n"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            PermissionError(errno.EACCES, "x"),
            "--port: found 80, which needs root's rights; allowed are 1024 to 65535, or 0",
        ),
        (OSError(errno.EADDRNOTAVAIL, "Cannot assign"), "--host: cannot listen at 10.9.8.7: Cannot assign"),
        (socket.gaierror(-2, "Name not known"), "--host: cannot listen at 10.9.8.7: Name not known"),
    ],
)
def test_where_it_cannot_listen(monkeypatch, error, message):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(socket, "create_server", refuse)
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        listen("10.9.8.7", 80)


def _answers(client):
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "::"], "--host: found :: without a key, allowed is loopback; set CHARLM_API_KEY to open it"),
        (
            ["--cors", "https://example.com/page"],
            "--cors: found https://example.com/page, allowed is an origin without a path, like https://example.com",
        ),
        (
            ["--model", "gone"],
            "--model: gone: no model there; allowed is a folder, models:/NAME@ALIAS or models:/NAME/VERSION",
        ),
        (
            ["--model", "models:/charlm"],
            "--model: found models:/charlm, allowed is a folder, models:/NAME@ALIAS or models:/NAME/VERSION",
        ),
    ],
)
def test_what_cannot_be_served_is_one_line(tmp_path, arguments, message):
    process = serve(tmp_path, *arguments)
    assert (process.communicate()[1], process.returncode) == (f"error: {message}\n", 2)


def test_workers_share_a_port_a_killed_one_is_replaced_and_ctrl_c_ends_all(tmp_path):
    random_model().save(tmp_path / "models/charlm")
    process = serve(tmp_path, "--port", "0", "--workers", "2", CHARLM_API_KEY="k")
    address = re.search(r"http://127.0.0.1:(\d+)/", process.stdout.readline())[0]

    def workers():
        found = []
        for one in psutil.Process(process.pid).children():
            with suppress(psutil.Error):  # it may end meanwhile
                if "spawn_main" in " ".join(one.cmdline()):  # not Python's resource tracker; a zombie has no words
                    found.append(one)
        return found

    try:
        headers = {"authorization": "Bearer k"}
        body = {"prompt": "abc", "max_tokens": 20, "seed": 1}
        ask = partial(httpx.post, f"{address}v1/completions", json=body, headers=headers, timeout=60)
        before = ask().json()["choices"]
        first, second = workers()
        first.kill()
        wait_for(lambda: len({*workers()} - {first}) == 2, 30)
        assert second in workers()
        assert [ask().json()["choices"] for _ in range(8)] == [before] * 8
        refused = httpx.post(f"{address}admin/reload", headers=headers, timeout=60)
        assert refused.status_code == 403
        assert "--workers" in refused.json()["error"]["message"]
        left = workers()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert not any(one.is_running() for one in left)
        assert "a worker died (exit code -9) and is replaced\n" in process.stderr.read()
    finally:
        process.kill()


@pytest.mark.slow
def test_workers_that_die_again_and_again_end_the_server():
    code = (
        "import functools, os; from pipeline.cli.serve import supervise; supervise(functools.partial(os._exit, 3), 2)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "5 workers died within 60 seconds: the server ends"


@pytest.mark.slow
def test_workers_end_when_their_supervisor_is_killed(tmp_path):
    random_model().save(tmp_path / "models/charlm")
    process = serve(tmp_path, "--port", "0", "--workers", "2")
    address = re.search(r"http://127.0.0.1:(\d+)/", process.stdout.readline())[0]
    assert httpx.get(f"{address}healthz", timeout=60).status_code == 200
    left = psutil.Process(process.pid).children()
    process.kill()
    process.wait()
    assert psutil.wait_procs(left, timeout=60)[1] == []


@pytest.mark.slow
def test_workers_without_a_model_are_one_line_and_not_started_again(tmp_path):
    process = serve(tmp_path, "--port", "0", "--workers", "2")
    assert process.wait(60) == 2
    errors = process.stderr.read().splitlines()
    assert errors
    assert all(line.startswith("error: models/charlm: ") for line in errors)

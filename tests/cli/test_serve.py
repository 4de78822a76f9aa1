import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from conftest import random_model
from serving.conftest import wait_for

ROOT = Path(__file__).parents[2]


def serve(folder, *arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli.app", "serve", *arguments],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_the_command_serves_and_a_stop_finishes_what_is_in_flight(tmp_path):
    random_model(hidden=256).save(tmp_path / "models/charlm")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = serve(tmp_path, "--port", str(port))
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
    assert "Traceback" not in process.stderr.read()


def _answers(client):
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "::"], "--host: found :: without a key, allowed is loopback; set CHARLM_API_KEY to open it"),
        (["--model", "gone"], "--model: gone: no model there; allowed is a folder, models:/NAME@ALIAS or models:/NAME/VERSION"),  # noqa: E501
        (["--model", "models:/charlm"], "--model: found models:/charlm, allowed is a folder, models:/NAME@ALIAS or models:/NAME/VERSION"),  # noqa: E501
    ],
)  # fmt: skip
def test_what_cannot_be_served_is_one_line(tmp_path, arguments, message):
    process = serve(tmp_path, *arguments)
    assert (process.communicate()[1], process.returncode) == (f"error: {message}\n", 2)

"""examples/deploy/nginx.conf: two servers behind nginx answer as one does; skipped where nginx is not installed."""

import re
import shutil
import subprocess

import httpx
import pytest
from support.models import random_model
from support.postgresql import free_ports
from support.projects import ROOT
from support.servers import wait_for

CONFIG = (ROOT / "examples/deploy/nginx.conf").read_text(encoding="utf-8")
TEXT = {"prompt": "abc", "max_tokens": 40, "seed": 3}
PORTS = ("8000", "8001", "8002")  # in the example

pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed: its example was not run"),
]


def answers(port):
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
    except httpx.TransportError:
        return False


def texts_of(port):
    """The number of requests that the server has answered with a text."""
    metrics = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    found = re.search(r'^charlm_requests_total\{route="/v1/completions",status="200"\} (\d+)', metrics, re.MULTILINE)
    return int(found[1]) if found else 0


@pytest.fixture(scope="module")
def replicas(tmp_path_factory):
    """Two servers of one model, as processes by their ports, and the address of nginx in front of them."""
    folder = tmp_path_factory.mktemp("replicas")
    random_model().save(folder / "model")
    own = {name: str(port) for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True)}
    config = CONFIG.replace("/tmp/", f"{folder}/")  # noqa: S108  what the example names, so that it is replaced
    for name, port in own.items():
        config = config.replace(f"127.0.0.1:{name}", f"127.0.0.1:{port}")
    (folder / "nginx.conf").write_text(config)
    servers, started = {}, []
    try:
        for port in (own["8001"], own["8002"]):
            command = ["charlm", "serve", "--model", str(folder / "model"), "--port", port]
            servers[port] = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        started += servers.values()
        for port in servers:
            wait_for(lambda port=port: answers(port), 120)
        command = ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")]
        started.append(subprocess.Popen(command))
        wait_for(lambda: answers(own["8000"]), 30)
        yield servers, f"http://127.0.0.1:{own['8000']}"
    finally:
        running = [process for process in started if process.poll() is None]
        for process in running:
            process.terminate()
        for process in running:
            process.wait(60)


def test_both_answer_with_the_same_text(replicas):
    servers, address = replicas
    with httpx.Client(base_url=address) as client:
        found = {client.post("/v1/completions", json=TEXT).json()["choices"][0]["text"] for _ in range(8)}
    assert len(found) == 1
    assert min(map(texts_of, servers)) >= 1


def test_a_stream_arrives_in_pieces(replicas):
    _, address = replicas
    request = TEXT | {"max_tokens": 3000, "stream": True}
    with httpx.stream("POST", f"{address}/v1/completions", json=request) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        pieces = list(response.iter_raw())
    assert len(pieces) > 3
    assert b"".join(pieces).endswith(b"data: [DONE]\n\n")


def test_what_belongs_to_one_server_is_not_reached(replicas):
    _, address = replicas
    assert httpx.get(f"{address}/metrics").status_code == 404
    assert httpx.post(f"{address}/admin/reload").status_code == 403


def test_the_other_answers_when_one_is_killed(replicas):
    servers, address = replicas
    before = httpx.post(f"{address}/v1/completions", json=TEXT).json()["choices"][0]["text"]
    killed = next(iter(servers.values()))
    killed.kill()
    killed.wait()
    for _ in range(6):
        response = httpx.post(f"{address}/v1/completions", json=TEXT)
        assert response.status_code == 200
        assert response.json()["choices"][0]["text"] == before

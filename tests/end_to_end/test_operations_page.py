"""docs/operations.md: its commands work, its snippets are valid, and its limits are the server's."""

import inspect
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML
from serving.conftest import wait_for
from support.models import random_model

from pipeline.cli.serve import STOP_SECONDS, serve
from pipeline.serving.completions import ALTERNATIVE_BYTES, REQUESTS_HELD, SCORE_BYTES, TEXT_BYTES, Limits
from pipeline.serving.connections import OTHER_FILES, STOPPING_SECONDS, ConnectionLimits
from pipeline.serving.middleware import BODIES_HELD

pytestmark = pytest.mark.end_to_end

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/operations.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def with_port(text, port):
    assert "8000" in text
    return text.replace("8000", str(port))


def bash(command, folder, environment):
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not shutil.which("curl"), reason="the page's commands need curl")
def test_the_documented_commands_work_in_order(tmp_path):
    random_model().save(tmp_path / "models/charlm")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    start, *others = blocks("bash")
    key, serve = start.strip().split("\n")
    bash(key, tmp_path, environment)
    (tmp_path / "serve.sh").write_text(with_port(serve, port).replace(") charlm", ") exec charlm"))
    server = subprocess.Popen(
        ["bash", "serve.sh"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout.readline().startswith(f"charlm: models/charlm at http://0.0.0.0:{port}/")
        wait_for(lambda: httpx.get(f"http://localhost:{port}/readyz").status_code == 200)
        printed = [bash(with_port(block, port), tmp_path, environment) for block in others]
        assert printed[0] == '{"status":"ok"}{"status":"ready","model":"charlm"}'
        names = {family.name for family in text_string_to_metric_families(printed[1])}
        assert printed[2] == '{"before":null,"now":null}'

        (job,) = YAML(typ="safe").load(with_port(blocks("yml")[0], port))["scrape_configs"]
        secret = (tmp_path / job["authorization"]["credentials_file"]).read_text().strip()
        assert secret not in ("", "none")
        address = f"http://{job['static_configs'][0]['targets'][0]}{job['metrics_path']}"
        assert httpx.get(address).status_code == 401
        header = {"authorization": f"{job['authorization']['type']} {secret}"}
        assert httpx.get(address, headers=header).status_code == 200
    finally:
        server.send_signal(signal.SIGTERM)
    assert server.wait(30) == -signal.SIGTERM  # 143 in a shell
    shown = r"20\S+Z INFO charlm\.access client=\S+ method=GET path=/healthz status=200 ms=\d+\.\d"
    assert re.search(shown, server.stdout.read())
    # The page lists exactly the metrics that the server has.
    named = {re.sub(r"_(total|bucket)$", "", name) for name in re.findall(r"charlm_[a-z_]+", PAGE)}
    assert named == {name for name in names if not name.endswith("_created")}


def test_the_documented_limits_are_the_servers():
    limits, of_connections = Limits(), ConnectionLimits()
    assert "| size of a body | 2 MB |" in PAGE
    assert limits.body_bytes == 2_000_000
    for row in (
        f"| characters in a prompt | {limits.prompt_chars:,} |",
        f"`--max-tokens` ({limits.max_tokens:,})",
        f"| completions per request | {limits.texts} |",
        f"`--seconds` ({limits.seconds:g})",
        f"`--in-flight` ({limits.in_flight})",
        f"`--queue` ({limits.queue})",
        f"have {STOP_SECONDS} seconds to finish",
        f"for {STOPPING_SECONDS:g} seconds is cut off",
        f"`--response-mb` ({limits.response_bytes / 1e6:g})",
        f"| size of all responses in progress | {REQUESTS_HELD} times that |",
        f"| size of all bodies in progress | {BODIES_HELD * limits.body_bytes / 1e6:g} MB |",
        f"times {TEXT_BYTES} bytes, plus {SCORE_BYTES} for",
        f"and {ALTERNATIVE_BYTES} for each alternative",
        f"`--connections` ({of_connections.connections})",
        f"`--connections` plus {OTHER_FILES} ",
        f"`--header-bytes` ({of_connections.header_bytes:,})",
        f"`--header-seconds` ({of_connections.header_seconds:g})",
        f"`--body-seconds` ({of_connections.body_seconds:g})",
        f"`--send-seconds` ({of_connections.send_seconds:g})",
        f"`--keep-alive` ({of_connections.keep_alive})",
    ):
        assert row in PAGE


def test_the_options_have_the_documented_defaults():
    """`charlm serve` states them itself, so that --help needs no server."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(serve).parameters.items()}
    for limits in (Limits(), ConnectionLimits()):
        for field in fields(limits):
            assert defaults.get(field.name, getattr(limits, field.name)) == getattr(limits, field.name)
    assert defaults["response_mb"] * 1_000_000 == Limits().response_bytes

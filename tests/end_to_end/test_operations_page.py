"""docs/operations.md: its commands work, its snippets are valid, and its limits are the server's."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML
from serving.conftest import wait_for
from support.models import random_model

from pipeline.cli.serve import STOP_SECONDS
from pipeline.serving.completions import Limits

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
    limits = Limits()
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
    ):
        assert row in PAGE

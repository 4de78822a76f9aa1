"""examples/deploy/compose.yaml: its commands run as processes, with a real PostgreSQL; images cannot be built here."""

import os
import re
import subprocess
import sys
from contextlib import contextmanager

import httpx
import pytest
from ruamel.yaml import YAML
from support.bare import ROOT, bare_charlm, bare_site
from support.models import random_model
from support.postgresql import BINARIES, free_ports, postgresql
from support.servers import wait_for

TEXT = (ROOT / "examples/deploy/compose.yaml").read_text(encoding="utf-8")
FILE = YAML(typ="safe").load(TEXT)
SERVICES = FILE["services"]
MLFLOW = (ROOT / SERVICES["mlflow"]["build"]["dockerfile"]).read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "examples/deploy/Dockerfile").read_text(encoding="utf-8")


def test_no_service_is_root_or_open_to_others_and_no_secret_is_in_the_file():
    for name, service in SERVICES.items():
        assert service["user"] not in ("root", "0"), name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
        assert service["healthcheck"]["test"][0] == "CMD"
        for variable, value in service["environment"].items():
            assert not re.search("PASS|KEY", variable) or re.fullmatch(r"\$\{\w+:\?set it in \.env\}", value)


def test_images_are_pinned_and_volumes_and_arguments_exist():
    images = [*re.findall(r"^\s+image: (\S+)", TEXT, re.MULTILINE), *re.findall(r"^FROM (\S+)", MLFLOW, re.MULTILINE)]
    assert len(images) == 2
    assert all(re.search(r":\d+\.\d+", image) for image in images)
    used = {volume.partition(":")[0] for service in SERVICES.values() for volume in service.get("volumes", ())}
    assert used == set(FILE["volumes"])
    assert all(f'ARG {name}=""' in DOCKERFILE for name in SERVICES["charlm"]["build"]["args"])


@contextmanager
def started(command, name, seconds=240, **environment):
    own = {key: value for key, value in SERVICES[name]["environment"].items() if "$" not in value}
    with subprocess.Popen(
        command, env=os.environ | own | environment, stdout=subprocess.DEVNULL, start_new_session=True
    ) as process:

        def is_healthy():
            assert process.poll() is None, f"{name} has ended"
            return healthy(name)

        try:
            wait_for(is_healthy, seconds)
            yield
        finally:
            os.killpg(process.pid, 9)


PORTS = dict(zip(("5000", "8000"), map(str, free_ports(2)), strict=True))


def local(word):
    """A word of a command or check, with this machine's address and free ports."""
    for port, own in PORTS.items():
        word = re.sub(rf"(?<=[:=])({port})\b|^{port}$", own, word)
    return word.replace("0.0.0.0", "127.0.0.1")  # noqa: S104


def healthy(name):
    program, *rest = SERVICES[name]["healthcheck"]["test"][1:]
    assert program == "python"
    return subprocess.run([sys.executable, *map(local, rest)], capture_output=True).returncode == 0


@pytest.mark.end_to_end
@pytest.mark.slow
@pytest.mark.skipif(not BINARIES, reason="PostgreSQL is not installed: the compose file's commands were not run")
def test_the_commands_serve_the_champion_of_the_registry(tmp_path):
    (tmp_path / "site").mkdir()
    site = bare_site(tmp_path / "site", *SERVICES["charlm"]["build"]["args"]["REGISTRY"].split())
    tracking = f"http://127.0.0.1:{PORTS['5000']}"
    with postgresql("mlflow") as database:
        words = [local(word) for word in SERVICES["mlflow"]["command"]]
        store = database.replace("postgresql://", "postgresql+psycopg://")
        words = [re.sub("=postgresql.*", f"={store}", word).replace("=/artifacts", f"={tmp_path}") for word in words]
        with started([sys.executable, "-m", *words], "mlflow"):
            # The name that the other container uses.
            assert httpx.get(f"{tracking}/health", headers={"Host": "mlflow:5000"}).status_code == 200
            random_model().save(tmp_path / "charlm")
            subprocess.run(
                [sys.executable, "-m", "pipeline.cli.app", "import", str(tmp_path / "charlm")],
                cwd=tmp_path,
                env=os.environ | {"MLFLOW_TRACKING_URI": tracking, "PYTHONPATH": str(ROOT)},
                check=True,
            )
            (program, *rest) = [local(word) for word in SERVICES["charlm"]["command"]]
            assert program == "charlm"
            key = {"MLFLOW_TRACKING_URI": tracking, "CHARLM_API_KEY": "k"}
            with started(bare_charlm(site, *rest), "charlm", **key):
                answer = httpx.post(
                    f"http://127.0.0.1:{PORTS['8000']}/v1/completions",
                    json={"prompt": "a", "max_tokens": 5},
                    headers={"Authorization": "Bearer k"},
                    timeout=60,
                )
    assert len(answer.json()["choices"][0]["text"]) == 5

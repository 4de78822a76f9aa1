"""examples/deploy: what its files say about the server is true."""

import re

from ruamel.yaml import YAML
from support.projects import ROOT
from typer.testing import CliRunner

from pipeline.cli.app import app
from pipeline.cli.serve import STOP_SECONDS
from pipeline.serving.middleware import PUBLIC_PATHS

FOLDER = ROOT / "examples/deploy"
DOCKERFILE = (FOLDER / "Dockerfile").read_text()
UNIT = (FOLDER / "charlm.service").read_text()
DEPLOYMENT, SERVICE = YAML(typ="safe").load_all((FOLDER / "kubernetes.yaml").read_text())
POD = DEPLOYMENT["spec"]["template"]["spec"]


def test_the_options_exist():
    known = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["serve", "--help"]).output
    words = re.search(r"CMD (\[.*\])", DOCKERFILE)[1] + re.search(r"ExecStart=(.*)", UNIT)[1]
    options = set(re.findall(r"--[a-z-]+", words))
    assert options >= {"--model", "--port", "--access-log"}
    assert all(option in known for option in options)


def test_the_probes_ask_for_public_pages_of_the_server():
    container = POD["containers"][0]
    paths = {container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")}
    assert paths == {"/readyz", "/healthz"}
    assert paths <= set(PUBLIC_PATHS)


def test_ports_and_users_agree():
    port = POD["containers"][0]["ports"][0]["containerPort"]
    assert f"EXPOSE {port}" in DOCKERFILE
    assert f'"--port", "{port}"' in DOCKERFILE
    assert f"--uid {POD['securityContext']['runAsUser']} " in DOCKERFILE
    assert SERVICE["spec"]["selector"].items() <= DEPLOYMENT["spec"]["template"]["metadata"]["labels"].items()


def test_a_stop_waits_longer_than_the_server_does():
    assert POD["terminationGracePeriodSeconds"] > STOP_SECONDS
    assert int(re.search(r"TimeoutStopSec=(\d+)", UNIT)[1]) > STOP_SECONDS

"""The shared view in a real MLflow store, and its page in a real Chromium, which is skipped without one."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
import zlib
from pathlib import Path

import httpx
import pytest
from mlflow import MlflowClient
from support.browser import NEEDS_CHROMIUM

from pipeline.core.files import write_json
from pipeline.tracking.execution import Execution, Session
from pipeline.tracking.publish import publish
from pipeline.tracking.records import stages_before
from pipeline.tracking.store import tracking_uri
from pipeline.tracking.view import TAG, compare_link, note_experiment

QUERY = "viewStateShareKey=charlm&workflowType=machine_learning"


def publish_run(folder, *, hidden, perplexity, epochs=1):
    folder.mkdir()
    text = f"data:\n  source: sotu\nmodel:\n  num_hidden: {hidden}\ntrain:\n  epochs: {epochs}\n"
    (folder / "params.yaml").write_text(text)
    write_json(folder / "metrics/train.json", {"seconds": 12.5, "parameters": 7})
    evaluate = {"perplexity": perplexity, "bits_per_char": 1.8, "accuracy": 0.5, "num_chars": 100}
    write_json(folder / "metrics/evaluate.json", evaluate)
    session = Session(key=folder.name, path=folder / "session.json")
    execution = Execution(folder=folder, name=f"num_hidden={hidden}", tags={"mlflow.source.name": "dvc repro"})
    publish(execution, session, [*stages_before("evaluate"), "evaluate"], status="FINISHED")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder, before = tmp_path_factory.mktemp("project"), Path.cwd()
    os.chdir(folder)
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    yield folder
    os.chdir(before)


def tag(name=TAG):
    client = MlflowClient(tracking_uri=tracking_uri())
    return json.loads(client.get_experiment_by_name("charlm").tags[name])


def columns():
    state = zlib.decompress(base64.b64decode(tag()["state"].removeprefix("deflate;")))
    return json.loads(state)["selectedColumns"]


def test_publishing_updates_the_view_and_saves_its_address(project):
    assert compare_link() is None
    publish_run(project / "one", hidden=8, perplexity=4.25)
    assert compare_link() == f"http://127.0.0.1:5000/#/experiments/1/runs?{QUERY}"
    assert columns() == [
        "metrics.`evaluate/perplexity`",
        "metrics.`evaluate/bits_per_char`",
        "metrics.`train/seconds`",
    ]
    first = tag()
    publish_run(project / "again", hidden=8, perplexity=4.3)
    assert tag() == first  # nothing changed, so nothing is written
    publish_run(project / "two", hidden=16, perplexity=3.75)
    assert columns()[1] == "params.`model.num_hidden`"
    assert tag()["name"] == first["name"]
    runs = MlflowClient(tracking_uri=tracking_uri()).search_runs(["1"])
    assert len({run.data.tags["mlflow.runColor"] for run in runs}) == 3


def test_the_address_is_the_servers_without_its_password_and_only_of_this_store(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://bob:secret@mlflow.example.org/")
    assert compare_link() is None
    note = project / ".charlm/view.json"
    before = note.read_text()
    note_experiment("7", "https://bob:secret@mlflow.example.org/")
    assert compare_link() == f"https://mlflow.example.org/#/experiments/7/runs?{QUERY}"
    assert "secret" not in note.read_text()
    note.write_text(before)


def test_the_address_needs_no_mlflow():
    code = "import sys, pipeline.tracking.view; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.fixture(scope="module")
def address(project):
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{project}/mlflow.db"]
    with subprocess.Popen(
        [*command, "--port", str(port), "--workers", "1"],
        cwd=project,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            for _ in range(240):
                assert process.poll() is None, "mlflow server has ended"
                try:
                    httpx.get(f"http://127.0.0.1:{port}/health").raise_for_status()
                    break
                except httpx.HTTPError:
                    time.sleep(0.5)
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.slow
@NEEDS_CHROMIUM
def test_the_page_shows_the_best_run_first_and_why_without_a_click(project, address, browser):
    from playwright.sync_api import expect

    publish_run(project / "best", hidden=32, perplexity=3.125)
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.set_default_timeout(120_000)
    page.goto(compare_link().replace("http://127.0.0.1:5000", address))
    cell = page.locator('.ag-row[row-index="0"] [col-id="metrics.`evaluate/perplexity`"]')
    expect(cell).to_have_text("3.125", timeout=120_000)
    expect(cell).to_be_in_viewport()
    header = page.locator('.ag-header-cell[col-id="metrics.`evaluate/perplexity`"]')
    expect(header).to_contain_text("evaluate/perplexity")
    name = page.locator('.ag-row[row-index="0"] [col-id="attributes.`Run Name`"]')
    expect(name).to_contain_text("num_hidden=32")
    page.close()

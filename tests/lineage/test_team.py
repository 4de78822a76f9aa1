"""A team's server: MLflow on PostgreSQL with proxied artifacts, for real. Skipped where PostgreSQL is not installed."""

import os
import subprocess
import sys
import time
from contextlib import contextmanager

import httpx
import pytest
from mlflow import MlflowClient
from support.postgresql import BINARIES, free_port, postgresql
from support.projects import Project

pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.slow,
    pytest.mark.skipif(not BINARIES, reason="PostgreSQL is not installed: a team's server is not tested"),
]


@pytest.fixture(scope="module")
def database():
    with postgresql("mlflow") as address:
        yield address


@pytest.fixture(scope="module")
def server(database, tmp_path_factory):
    """Give a function that runs MLflow's server while its block lasts, and its address."""
    port, artifacts = free_port(), tmp_path_factory.mktemp("artifacts")
    address = f"http://127.0.0.1:{port}"
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--backend-store-uri",
        database,
        "--artifacts-destination",
        artifacts.as_uri(),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]

    @contextmanager
    def running():
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        ) as process:
            try:
                for _ in range(240):
                    assert process.poll() is None, "mlflow server has ended"
                    try:
                        httpx.get(f"{address}/health").raise_for_status()
                        break
                    except httpx.HTTPError:
                        time.sleep(0.5)
                yield address
            finally:
                os.killpg(process.pid, 9)

    return running, address


def test_a_team_on_postgresql(server, tmp_path, tmp_path_factory):
    running, address = server
    project, downloads = Project(tmp_path), tmp_path_factory.mktemp("downloads")
    with running():
        project.run("dvc", "repro", "-q", MLFLOW_TRACKING_URI=address)
        project.commit("first run")
        client = MlflowClient(address, address)
        (run,) = client.search_runs([client.get_experiment_by_name("charlm").experiment_id])
        assert run.info.status == "FINISHED"
        assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
        assert client.download_artifacts(run.info.run_id, "evaluate/position.csv", str(downloads))
        assert not (project.folder / "mlflow.db").exists()
        assert "champion" in project.run("charlm", "models", MLFLOW_TRACKING_URI=address)
        output = project.run("charlm", "verify", MLFLOW_TRACKING_URI=address)
        assert "rebuilt to the same bytes" in output

    # Unreachable at the start: refused by the input check, in one line.
    refused = project.run("dvc", "repro", MLFLOW_TRACKING_URI=address, expect=255)
    assert f"error: MLFLOW_TRACKING_URI: {address} does not answer" in refused
    assert "Traceback" not in refused

    # Unreachable later: the rest is saved, and sent to the run it belongs to.
    saved = project.run("python", "-m", "stages.register", MLFLOW_TRACKING_URI=address)
    assert "`charlm sync` registers it later" in saved
    with running():
        sent = project.run("charlm", "sync", MLFLOW_TRACKING_URI=address)
        assert "the saved record is sent; charlm version 2 is challenger: not better" in sent
        assert "nothing is missing" in project.run("charlm", "sync", MLFLOW_TRACKING_URI=address)
        assert len(client.search_runs([run.info.experiment_id])) == 2
        assert project.run("charlm", "clean", "--days", "0", "--yes", MLFLOW_TRACKING_URI=address)

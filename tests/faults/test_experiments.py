"""Two simultaneous `dvc exp run --temp`: each has its own run, model version and figures, and one champion is left."""

import subprocess

import pytest
from mlflow import MlflowClient
from support.projects import Project

from pipeline.core.files import read_json

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

# A remote with a token, as on many machines: it must not be stored with a run.
REMOTE = "https://me:remote-t0ken@127.0.0.1:9/charlm.git"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Two experiments that were started at once in a new project, in a folder with an odd name."""
    folder = tmp_path_factory.mktemp("experiments") / "costs $HOME"
    folder.mkdir()
    project = Project(folder)
    project.git("remote", "add", "origin", REMOTE)
    environment = project.environment() | {"OMP_NUM_THREADS": "1"}
    commands = [
        ["dvc", "--wait-for-lock", "exp", "run", "--temp", "-n", name, "-S", f"train.seed={seed}"]
        for seed, name in ((1, "one"), (2, "two"))
    ]
    started = [
        subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for command in commands
    ]
    try:
        project.outputs = [process.communicate(timeout=3000)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    project.codes = [process.returncode for process in started]
    return project


def test_both_succeed_without_a_traceback(project):
    assert project.codes == [0, 0], project.outputs
    assert not [output for output in project.outputs if "Traceback" in output]


def test_each_has_its_own_run_and_version(project):
    uri = f"sqlite:///{project.folder}/mlflow.db"
    client = MlflowClient(uri, uri)
    runs = client.search_runs([client.get_experiment_by_name("charlm").experiment_id])
    assert {run.data.tags["dvc.experiment"]: run.info.status for run in runs} == dict.fromkeys(
        ("one", "two"), "FINISHED"
    )
    assert sorted(run.data.params["train.seed"] for run in runs) == ["1", "2"]
    found = client.search_model_versions("name = 'charlm'")
    assert sorted(int(version.version) for version in found) == [1, 2]
    assert {version.run_id for version in found} == {run.info.run_id for run in runs}
    assert len({version.tags["weights_sha256"] for version in found}) == 2
    assert {version.tags["measurement_id"] for version in found} == {
        run.data.tags["evaluate.measurement_id"] for run in runs
    }
    champion = client.get_model_version_by_alias("charlm", "champion")
    best = min(found, key=lambda version: float(version.tags["perplexity"]))
    assert champion.version == best.version


def test_the_workspace_is_unchanged_and_nothing_is_left(project):
    assert project.git("status", "--porcelain", "--", "params.yaml", "pipeline", "stages") == ""
    assert project.run("dvc", "exp", "list", "--name-only").split() == ["one", "two"]
    assert not list(project.folder.glob(".charlm/unsent/*"))
    for path in project.folder.glob(".charlm/sessions/*.json"):
        assert read_json(path)["registered"]


def test_the_token_of_a_remote_is_not_stored(project):
    """It is in .git/config alone; this file, which has it too, is in tests/."""
    places = [place for place in project.folder.iterdir() if place.name not in {".git", "tests"}]
    files = [path for place in places for path in (place, *place.rglob("*")) if path.is_file()]
    assert project.folder / "mlflow.db" in files
    assert not [path for path in files if b"remote-t0ken" in path.read_bytes() and "/tests/" not in str(path)]

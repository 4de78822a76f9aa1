"""dvc repro, experiments, the queue and mlflow models serve, in a project with tiny params."""

import json
import os
import socket
import subprocess
import time

import httpx
import pytest
from support.projects import ALWAYS, STAGES, TEXT, Project

pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    project = Project(tmp_path_factory.mktemp("charlm"))
    assert project.ran(project.run("dvc", "repro")) == STAGES
    project.commit("first run")
    return project


def test_mlflow_has_one_complete_run(project):
    runs, count = project.runs()
    run = runs["repro"]
    assert run.info.status == "FINISHED"
    ours = {name.partition("/")[0] for name in run.data.metrics} - {"system"}
    assert ours == {"train", "evaluate", "generate"}
    assert {f"seconds.{stage}" for stage in STAGES[:-1]} <= set(run.data.tags)
    assert run.data.params["model.num_hidden"] == "8"
    assert run.data.tags["git.clean"] == "true"
    assert count >= 1


def test_a_second_repro_runs_only_source_and_summary(project):
    output = project.run("dvc", "repro")
    assert project.ran(output) == ALWAYS
    assert output.count("charlm ──") == 1


def test_an_experiment_in_another_clone_gives_the_same_weights(project, tmp_path):
    """Another folder and cache, and `dvc exp run` instead of `dvc repro`."""
    other = Project(tmp_path)
    assert set(other.ran(other.run("dvc", "exp", "run", "-n", "same", "train"))) == set(STAGES[:6])
    assert other.weights() == project.weights()


def test_an_experiment_adds_a_run_with_its_name(project):
    project.run("dvc", "exp", "run", "-n", "wider", "-S", "model.num_hidden=12")
    runs, _ = project.runs()
    assert runs["wider"].data.params["model.num_hidden"] == "12"
    assert runs["wider"].data.tags["dvc.experiment"] == "wider"
    assert runs["wider"].data.tags["ingest.characters"] == runs["repro"].data.tags["ingest.characters"]
    shown = json.loads(project.run("dvc", "exp", "show", "--json").split("\n{")[0])
    assert "wider" in json.dumps(shown)
    project.reset()


@pytest.mark.slow
def test_only_stages_after_a_change_run(project):
    output = project.run("dvc", "exp", "run", "-n", "colder", "-S", "generate.temperature=0.5")
    assert project.ran(output) == ["source", "generate", "register", "summary"]
    runs, _ = project.runs()
    assert runs["colder"].data.metrics["evaluate/perplexity"] == runs["repro"].data.metrics["evaluate/perplexity"]
    project.reset()


@pytest.mark.slow
def test_temp_and_queued_experiments_log_to_the_same_store(project):
    _, before = project.runs()
    project.run("dvc", "exp", "run", "--temp", "-n", "apart", "-S", "train.seed=8")
    for name, seed in (("left", 9), ("right", 10)):
        project.run("dvc", "exp", "run", "--queue", "-n", name, "-S", f"train.seed={seed}")
    project.run("dvc", "queue", "start", "-j", "2")
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and project.run("dvc", "queue", "status").count("Success") < 2:
        assert "Failed" not in project.run("dvc", "queue", "status")
        time.sleep(2)
    runs, after = project.runs()
    assert after == before + 3
    for name in ("apart", "left", "right"):
        assert runs[name].info.status == "FINISHED"
        assert runs[name].data.tags["dvc.experiment"] == name


@pytest.mark.slow
def test_a_forced_repetition_gives_the_same_weights_and_its_own_run(project):
    weights, (_, before) = project.weights(), project.runs()
    project.run("dvc", "exp", "run", "-f", "-n", "wider")
    _, after = project.runs()
    assert after == before + 1
    assert project.weights() == weights


def test_refused_params_change_nothing(project):
    params, status = project.folder / "params.yaml", project.git("status", "--porcelain")
    before, weights, (_, runs) = params.read_bytes(), project.weights(), project.runs()
    unknown = project.run("dvc", "exp", "run", "-S", "+model.num_hiden=128", expect=255)
    assert "error: params.yaml: model.num_hiden: unknown key; did you mean num_hidden?\n" in unknown
    assert "params.yaml is as it was before -S +model.num_hiden=128\n" in unknown
    assert "Traceback" not in unknown
    assert project.ran(unknown) == ["source"]
    project.run("dvc", "exp", "run", "--temp", "-S", "train.epochs=abc", expect=255)
    assert params.read_bytes() == before
    assert project.git("status", "--porcelain") == status
    assert project.weights() == weights
    assert project.runs()[1] == runs
    assert project.ran(project.run("dvc", "repro")) == ALWAYS


@pytest.mark.slow
def test_an_edit_by_hand_survives_a_refused_value(project):
    params = project.folder / "params.yaml"
    edited = params.read_text().replace("num_samples: 2", "num_samples: 1  # mine")
    params.write_text(edited)
    said = project.run("dvc", "exp", "run", "-S", "train.epochs=abc", expect=255)
    assert "params.yaml: train.epochs is as last accepted; your other edits stay\n" in said
    assert "num_samples: 1  # mine" in params.read_text()
    assert "abc" not in params.read_text()
    project.reset()


@pytest.mark.slow
def test_the_summary_names_the_params_that_an_experiment_leaves_in_the_workspace(project):
    output = project.run("dvc", "exp", "run", "-n", "cooler", "-S", "generate.temperature=0.6")
    assert "generate.temperature 0.8 → 0.6" in output
    assert "undo: git checkout params.yaml" in output
    assert project.run("charlm", "compare").count("cooler (here)") == 1
    project.git("checkout", "params.yaml")
    assert "differs from the commit   nothing" in project.run("dvc", "repro")
    project.reset()


@pytest.mark.slow
def test_an_edited_source_runs_all_stages(project):
    text = project.folder / "text.txt"
    text.write_text(TEXT.replace("software", "hardware"))
    assert project.ran(project.run("dvc", "repro")) == STAGES
    text.write_text(TEXT)
    assert "Running stage 'train'" not in project.run("dvc", "repro")  # restored from DVC's cache


def test_a_version_is_traced_and_rebuilt_with_the_same_bytes(project):
    assert "version       charlm 1" in project.run("charlm", "trace", "1")
    assert project.run("charlm", "verify", "1").count("same bytes") >= 4


def test_the_everyday_commands_use_the_last_model(project):
    assert "champion" in project.run("charlm", "compare")
    assert "The United States are" in project.run("charlm", "generate", "The United States are", "--temperature", "0.7")


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def served(project):
    port = free_port()
    command = ["mlflow", "models", "serve", "-m", "models:/charlm@champion", "--env-manager", "local", "-p", str(port)]
    with subprocess.Popen(
        command,
        cwd=project.folder,
        env=project.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as server:
        try:
            for _ in range(120):
                try:
                    httpx.get(f"http://127.0.0.1:{port}/ping").raise_for_status()
                    break
                except httpx.HTTPError:
                    time.sleep(0.5)
            yield lambda body: httpx.post(f"http://127.0.0.1:{port}/invocations", json=body, timeout=60)
        finally:
            os.killpg(server.pid, 15)


PARAMS = {"max_new_chars": 100, "temperature": 0.8, "seed": 7}


def test_mlflow_serves_the_champion(served):
    body = {"inputs": {"prompt": ["The United States are"]}, "params": PARAMS}
    (first,) = served(body).json()["predictions"]
    assert set(first) == {"prompt", "completion", "text", "finish_reason", "warnings"}
    assert len(first["completion"]) == 100
    assert served(body).json()["predictions"] == [first]
    for form in (
        {"dataframe_split": {"columns": ["prompt"], "data": [["The United States are"], ["x"]]}},
        {"dataframe_records": [{"prompt": "The United States are"}, {"prompt": "x"}]},
        {"inputs": {"prompt": ["The United States are", "x"]}},
        {"inputs": ["The United States are", "x"]},
        {"inputs": {"prompt": "The United States are"}},
    ):
        assert served(form | {"params": PARAMS}).json()["predictions"][0] == first


@pytest.mark.parametrize("params", [{"temperature": "hot"}, {"top_p": 0.0}, {"max_new_chars": 10**9}, {"stop": "x"}])
def test_a_wrong_param_gives_status_400_with_its_name(served, params):
    answer = served({"inputs": {"prompt": ["x"]}, "params": params})
    assert answer.status_code == 400
    assert next(iter(params)) in answer.json()["message"]

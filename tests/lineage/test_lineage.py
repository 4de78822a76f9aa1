"""Experiments restored by DVC, an unreachable tracking server, and tracing and rebuilding a version."""

import json

import pytest
from mlflow import MlflowClient
from support.projects import ALWAYS, TEXT, Project

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]
DEAD = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    project = Project(tmp_path_factory.mktemp("charlm"))
    project.run("dvc", "remote", "add", "-q", "-d", "team", str(tmp_path_factory.mktemp("remote")))
    project.run("dvc", "repro", "-q")
    project.commit("first run")
    return project


def client(project):
    store = f"sqlite:///{project.folder}/mlflow.db"
    return MlflowClient(store, store)  # without the second, another test's registry


def test_an_experiment_that_dvc_restores_gets_its_run_once(project):
    for name in ("cold", "cold-again"):
        output = project.run("dvc", "exp", "run", "-n", name, "-S", "generate.temperature=0.5")
        project.reset()
    assert project.ran(output) == ALWAYS
    _, before = project.runs()
    assert project.run("charlm", "sync") == "cold-again: created from what DVC holds\n"
    assert "nothing is missing" in project.run("charlm", "sync")
    runs, after = project.runs()
    assert after == before + 1
    ran, restored = runs["cold"], runs["cold-again"]
    assert restored.data.params == ran.data.params
    for name, value in ran.data.metrics.items():
        assert name.startswith("system/") or restored.data.metrics[name] == value
    for name in ("dvc.baseline", "charlm.changed", "split.train_sha256", "mlflow.note.content"):
        assert restored.data.tags[name] == ran.data.tags[name]
    assert "generate.temperature 0.8 → 0.5" in restored.data.tags["charlm.changed"]
    curve = client(project).get_metric_history(restored.info.run_id, "train/eval_perplexity")
    assert len(curve) == len(client(project).get_metric_history(ran.info.run_id, "train/eval_perplexity"))


def test_a_killed_sync_is_repeated(project):
    runs, before = project.runs()
    unfinished = runs["cold-again"].info.run_id
    note = {"key": "sync", "run_id": unfinished}
    (project.folder / ".charlm/sync.json").write_text(json.dumps(note))  # what a killed sync leaves
    assert "cold-again: created" in project.run("charlm", "sync")
    runs, after = project.runs()
    assert after == before
    assert runs["cold-again"].info.run_id != unfinished


def test_a_workspace_with_edited_params_gets_no_run(project):
    _, before = project.runs()
    path = project.folder / "params.yaml"
    path.write_text(path.read_text().replace("num_hidden: 8", "num_hidden: 9"))
    assert "nothing is missing" in project.run("charlm", "sync")
    assert "error: params.yaml was edited since the last run" in project.run("charlm", "report", expect=2)
    project.reset()
    assert project.runs()[1] == before


def test_the_pipeline_continues_while_the_server_is_unreachable_and_sync_sends_the_run(project):
    """Stage by stage, since `source` stops the pipeline if the server is unreachable at the start."""
    _, before = project.runs()
    # `true`, so that the shell does not replace itself by the last stage: its process makes them one execution.
    script = "set -e; for stage in evaluate generate register; do python -m stages.$stage; done; true"
    output = project.run("bash", "-c", script, MLFLOW_TRACKING_URI=DEAD)
    assert output.count("`charlm sync`") >= 3
    assert "Traceback" not in output
    line = project.run("charlm", "sync").strip()
    assert "the saved record is sent; charlm version 3 is challenger: not better" in line
    assert "nothing is missing" in project.run("charlm", "sync")
    assert project.runs()[1] == before + 1
    run = client(project).get_run(client(project).get_model_version("charlm", "3").run_id)
    assert {"seconds.evaluate", "seconds.generate", "seconds.register"} <= set(run.data.tags)
    assert run.info.status == "FINISHED"
    assert not list((project.folder / ".charlm/unsent").iterdir())


def test_a_version_is_traced_and_rebuilt_to_the_same_bytes(project):
    traced = project.run("charlm", "trace", "2")
    assert "experiment    cold, held by DVC" in traced
    assert "generate.temperature 0.8 → 0.5" in traced
    patch = project.run("charlm", "trace", "2", "--patch")
    assert "+  temperature: 0.5" in patch
    output = project.run("charlm", "verify", "2")
    assert output.count("same bytes") == 5  # four files, and the line that sums it up
    assert "charlm version 2: rebuilt to the same bytes" in output


def test_a_changed_text_is_reported(project):
    """A text that is not in Git; one in Git is taken from the version's commit."""
    private = project.folder / "private.txt"
    private.write_text(TEXT.upper())
    project.run("dvc", "exp", "run", "-q", "-n", "private", "-S", "data.source=private.txt")
    project.reset()
    version = max(int(one.version) for one in client(project).search_model_versions("name = 'charlm'"))
    private.write_text(TEXT.upper().replace("SOFTWARE", "HARDWARE"))
    output = project.run("charlm", "verify", str(version), expect=1)
    assert "DIFFERENT  weights.safetensors" in output
    assert "already different before training: data/clean" in output
    private.unlink()
    (project.folder / "text.txt").write_text(TEXT.replace("software", "hardware"))
    assert "rebuilt to the same bytes" in project.run("charlm", "verify", "1")
    project.reset()


def test_the_registry_from_the_command_line(project):
    assert "error: charlm version 2 was not promoted: not better" in project.run("charlm", "promote", "2", expect=2)
    project.run("charlm", "promote", "2", "--force", "--reason", "to see")
    assert "2 champion" in " ".join(project.run("charlm", "models").split())
    assert "version 1 is champion again" in project.run("charlm", "rollback")
    assert "error: charlm: no version 9; there are" in project.run("charlm", "trace", "9", expect=2)


def test_experiments_are_compared_and_applied(project):
    project.run("dvc", "exp", "run", "-q", "-n", "wider", "-S", "model.num_hidden=10")
    project.reset()
    project.run("dvc", "exp", "apply", "wider")
    assert "num_hidden: 10" in (project.folder / "params.yaml").read_text()
    assert "model.num_hidden" in project.run("dvc", "exp", "diff")
    project.run("dvc", "plots", "diff", "HEAD", "wider", "-o", "plots_diff")
    assert (project.folder / "plots_diff/index.html").exists()
    project.reset()


def test_a_second_clone_pulls_results_and_reruns_nothing(project, tmp_path_factory):
    """Git's server is a bare repository here, DVC's remote a folder."""
    server = tmp_path_factory.mktemp("server")
    project.run("git", "init", "-q", "--bare", str(server))
    project.git("remote", "add", "origin", str(server))
    project.git("push", "-q", "origin", "main")
    project.run("dvc", "push", "-q")
    project.run("dvc", "exp", "push", "-q", "origin", "wider")
    clone = Project.__new__(Project)
    clone.folder = tmp_path_factory.mktemp("second") / "charlm"
    project.run("git", "clone", "-q", "-b", "main", str(server), str(clone.folder))
    clone.run("dvc", "pull", "-q")
    assert clone.ran(clone.run("dvc", "repro")) == ALWAYS
    assert clone.weights() == project.weights()
    clone.run("dvc", "exp", "pull", "-q", "origin", "wider")
    output = clone.run("charlm", "sync").splitlines()
    assert [line.partition(" ")[0].rstrip(":") for line in output] == ["wider", "repro"]
    runs, count = clone.runs()
    assert count == 2
    evaluate = json.loads((project.folder / "metrics/evaluate.json").read_text())
    assert runs["repro"].data.metrics["evaluate/perplexity"] == evaluate["perplexity"]
    clone.run("dvc", "exp", "apply", "wider")
    assert clone.ran(clone.run("dvc", "repro")) == ALWAYS


def test_clean_deletes_only_what_it_listed(project):
    assert "model versions" not in project.run("charlm", "clean")  # all are younger than 30 days
    shown = project.run("charlm", "clean", "--days", "0")
    assert "model versions without an alias" in shown
    _, before = project.runs()
    assert "deleted:" in project.run("charlm", "clean", "--days", "0", "--yes")
    runs, after = project.runs()
    assert after < before
    assert {"cold", "cold-again", "wider"} <= set(runs)  # DVC holds these experiments
    left = {str(one.version): one.aliases for one in client(project).search_model_versions("name = 'charlm'")}
    assert "1" in left
    assert project.ran(project.run("dvc", "repro")) == ALWAYS
    assert "nothing is missing" in project.run("charlm", "sync")


def test_clean_leaves_other_models_and_shared_caches_alone(project, tmp_path):
    project.run("dvc", "exp", "run", "-q", "-n", "other", "-S", "register.model_name=other")
    project.run("dvc", "exp", "remove", "-q", "other")
    project.reset()
    project.run("dvc", "config", "--local", "cache.dir", str(tmp_path / "shared"))
    output = project.run("charlm", "clean", "--days", "0", "--yes")
    assert f"DVC's cache {tmp_path}/shared is outside of the project: left alone" in output
    project.run("dvc", "config", "--local", "--unset", "cache.dir")
    assert "rebuilt to the same bytes" in project.run("charlm", "verify", "champion", "--model", "other")

"""A sweep with real DVC and MLflow; its best params are restored without training."""

import shlex

import pytest
from mlflow import MlflowClient
from support.projects import STAGES, Project

SWEEP = """# Rates
trials: 3
search:
  train.optimizer.lr: {low: 0.002, high: 0.03, log: true}
"""
pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]


def test_a_sweep_gives_experiments_runs_and_a_command_for_the_best(tmp_path):
    project = Project(tmp_path)
    (tmp_path / "rates.yaml").write_text(SWEEP)
    project.commit("sweep")
    output = project.run("charlm", "sweep", "rates.yaml", "--jobs", "2", "-S", "train.seed=3")
    names = {"rates-0001", "rates-0002", "rates-0003"}
    assert {ref.rpartition("/")[2] for ref in project.git("for-each-ref", "refs/exps").splitlines()} == names
    assert project.git("status", "--short", "-uno") == ""

    store = f"sqlite:///{tmp_path}/mlflow.db"
    client = MlflowClient(tracking_uri=store, registry_uri=store)
    runs, count = project.runs()
    parent = runs["rates"]
    assert runs.keys() == names | {"rates"}
    assert count == 4
    perplexities = {name: runs[name].data.metrics["evaluate/perplexity"] for name in names}
    for name in names:
        assert runs[name].data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert runs[name].info.status == "FINISHED"
    best = min(perplexities, key=perplexities.get)
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["sweep/best_perplexity"] == perplexities[best]
    assert f"| {best[-4:]} | {perplexities[best]:.3f} |" in parent.data.tags["mlflow.note.content"]
    assert not client.search_registered_models()

    command = output.strip().splitlines()[-1]
    assert command.startswith("dvc exp run -S train.seed=3 ")
    assert f"train.optimizer.lr={runs[best].data.params['train.optimizer.lr']}" in command
    again = project.run(*shlex.split(command), "evaluate")
    assert project.ran(again) == STAGES[:1]
    assert "Stage 'train' is cached" in again

"""Records against a real MLflow store in a temporary project."""

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pipeline.core.errors import UserError
from pipeline.core.files import write_json
from pipeline.tracking import stage as tracking
from pipeline.tracking.execution import Session, execution_here, list_unsent
from pipeline.tracking.project import runs_all_stages
from pipeline.tracking.publish import publish
from pipeline.tracking.records import stages_before
from pipeline.tracking.stage import publish_deferred, stage
from pipeline.tracking.store import open_store, store_hash, tracking_uri
from pipeline.tracking.view import run_description

pytestmark = pytest.mark.end_to_end


def client():
    return MlflowClient(tracking_uri=tracking_uri())


def runs():
    return client().search_runs([client().get_experiment_by_name("charlm").experiment_id])


def test_one_run_gets_each_record_once(project):
    session = Session.current()
    session.seconds["train"] = 12.3
    here = execution_here()
    run_id = publish(here, session, stages_before("train"), status="RUNNING")
    assert client().get_run(run_id).info.status == "RUNNING"
    publish(here, session, [*stages_before("train"), "train"], status="FINISHED")
    publish(here, Session.current(), [*stages_before("evaluate"), "evaluate"], status="FINISHED")
    (run,) = runs()
    assert run.info.run_id == run_id
    assert run.info.status == "FINISHED"
    assert run.data.params == {"data.source": "sotu", "model.num_hidden": "8"}
    assert run.data.tags["split.characters"] == "9"
    assert run.data.metrics["train/best_eval_perplexity"] == 4.5
    assert run.data.tags["seconds.train"] == "12.3"
    assert run.data.tags["train.device"] == "cpu"
    curve = client().get_metric_history(run_id, "train/train_perplexity")
    assert [point.step for point in curve] == list(range(1, 1501))
    assert curve[-1].timestamp - curve[0].timestamp == 149_900
    texts = {one.tags[0].value: one.dataset for one in run.inputs.dataset_inputs}
    assert {side: (text.name, text.digest) for side, text in texts.items()} == {
        "train": ("sotu", "a" * 36),
        "eval": ("sotu", "b" * 36),
    }
    assert json.loads(texts["eval"].profile) == {"characters": 2}
    assert [artifact.path for artifact in client().list_artifacts(run_id, "train")] == ["train/train.csv"]
    assert run.info.artifact_uri.startswith((project / "mlruns").as_uri())


def test_a_stage_that_runs_again_in_a_session_creates_a_new_run(project):
    for _ in range(2):
        with stage("train"):
            pass
    assert len(runs()) == 2
    with stage("evaluate"):
        pass
    assert len(runs()) == 2


def test_light_stages_create_no_run_unless_they_fail(project):
    with stage("clean"):
        pass
    assert not (project / "mlflow.db").exists()
    with pytest.raises(SystemExit) as caught, stage("split"):
        raise UserError("split.buckets: no")
    assert caught.value.code == 2
    (run,) = runs()
    assert run.info.status == "FAILED"
    assert run.data.tags["charlm.error"] == "split: split.buckets: no"
    assert "seconds.clean" in run.data.tags


def test_new_and_older_experiments_are_shown_as_machine_learning(project):
    with open_store() as (store, experiment_id):
        assert store.get_experiment(experiment_id).tags["mlflow.experimentKind"] == "custom_model_development"
        store.set_experiment_tag(experiment_id, "mlflow.experimentKind", "genai_development_inferred")
    with open_store() as (store, experiment_id):
        assert store.get_experiment(experiment_id).tags["mlflow.experimentKind"] == "custom_model_development"
        store.set_experiment_tag(experiment_id, "mlflow.experimentKind", "regression")  # a person's choice
    with open_store() as (store, experiment_id):
        assert store.get_experiment(experiment_id).tags["mlflow.experimentKind"] == "regression"


def test_an_input_error_creates_no_run(project, capsys):
    with pytest.raises(SystemExit), stage("source"):
        raise UserError("params.yaml:\n  model: no")
    assert not (project / "mlflow.db").exists()
    assert capsys.readouterr().err == "error: params.yaml: model: no\n"


def test_an_unexpected_error_marks_the_run_and_is_not_hidden(project):
    with pytest.raises(ZeroDivisionError), stage("train"):
        raise ZeroDivisionError("boom")
    (run,) = runs()
    assert run.info.status == "FAILED"
    assert "ZeroDivisionError: boom" in run.data.tags["charlm.error"]


def test_if_the_store_fails_there_is_a_warning_and_the_record_is_saved(project, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with stage("train"):
        pass
    assert "warning: MLflow got no record of train" in capsys.readouterr().err
    (one,) = list_unsent()
    assert one.stages == [*stages_before("train"), "train"]
    assert (one.execution.folder / "plots/train.csv").read_text() == (project / "plots/train.csv").read_text()
    assert one.store == store_hash("http://127.0.0.1:9")


def test_the_next_stage_sends_saved_records_when_mlflow_is_reachable_again(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with stage("train"):
        pass
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with stage("evaluate"):
        pass
    (run,) = runs()
    assert run.data.metrics["train/best_eval_perplexity"] == 4.5
    assert list_unsent() == []


def test_saving_a_stage_twice_in_a_shell_makes_two_executions(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    for now in (1, 2):
        monkeypatch.setattr("time.time", lambda now=now: now)
        with stage("train"):
            pass
    assert [one.execution.ended for one in list_unsent()] == [1, 2]


def test_passwords_are_neither_printed_nor_saved(project, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://bob:hunter2@127.0.0.1:9")
    with stage("train"):
        pass
    assert "hunter2" not in capsys.readouterr().err
    for path in (project / ".charlm").rglob("*"):
        assert path.is_dir() or b"hunter2" not in path.read_bytes()


def test_a_model_that_cannot_be_registered_is_saved(project, capsys):
    def fail(execution, run_id):
        raise ConnectionError("gone while it was sent")

    with stage("register") as run:
        run.register(fail)
    assert "the model is not registered (gone while it was sent); `charlm sync`" in capsys.readouterr().err
    (one,) = list_unsent()
    assert "register" in one.stages
    assert not one.session.registered


def test_an_unreadable_saved_run_is_listed_by_its_folder(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with stage("train"):
        pass
    (one,) = list_unsent()
    (one.path / "execution.json").write_text("{")
    assert list_unsent() == [one.path]


def test_the_run_has_a_description_and_the_files_of_a_trace(project):
    write_json(
        Path("metrics/evaluate.json"),
        {
            "perplexity": 3.5,
            "bits_per_char": 1.8,
            "accuracy": 0.6,
            "num_chars": 1000,
            "eval_sha256": "b" * 64,
            "baseline_perplexity": 3.6,
            "baseline": "Kneser-Ney order 9",
        },
    )
    sample = {"mode": "sampled", "temperature": 0.8, "prompt": "The ", "completion": "end.\n``` <b>"}
    write_json(Path("samples/samples.json"), [sample])
    with stage("train"):
        pass
    assert "perplexity 3.5" not in runs()[0].data.tags["mlflow.note.content"]  # not this execution's yet
    with stage("generate"):
        pass
    with stage("evaluate"):
        pass
    (run,) = runs()
    text = run.data.tags["mlflow.note.content"]
    assert "**perplexity 3.500** · n-gram baseline 3.600 (Kneser-Ney order 9) · 1.800 bits per character" in text
    assert "1.800 bits per character · accuracy 60.0% of 1,000 characters · 7 parameters" in text
    assert "````text\nThe end.\n``` <b>\n````" in text
    assert {file.path for file in client().list_artifacts(run.info.run_id, "trace")} == {
        "trace/changes.patch",
        "trace/environment.json",
    }


def test_the_description_works_without_a_baseline(tmp_path):
    figures = {"perplexity": 3.5, "bits_per_char": 1.8, "accuracy": 0.6, "num_chars": 1000}
    write_json(tmp_path / "metrics/evaluate.json", figures)
    assert run_description(tmp_path, stages=["evaluate"], changed="").startswith("**perplexity 3.500** · 1.800 bits")


def test_the_notes_sample_has_no_line_that_widens_the_page(tmp_path):
    sample = {"mode": "sampled", "temperature": 0.8, "prompt": "The ", "completion": "end of it all " * 20 + "\n\nLook"}
    write_json(tmp_path / "samples/samples.json", [sample])
    lines = run_description(tmp_path, stages=["generate"], changed="").split("\n")
    assert max(map(len, lines)) <= 80
    assert lines[-3:] == ["", "Look", "```"]


@pytest.fixture
def registering(monkeypatch):
    """As in `dvc repro` without targets, which continues to `register`."""
    monkeypatch.setattr(tracking, "will_register", lambda: True)


def test_evaluate_and_generate_are_published_with_register(project, registering):
    for name in ("evaluate", "generate"):
        with stage(name):
            pass
    assert not (project / "mlflow.db").exists()
    with stage("register"):
        pass
    publish_deferred()
    (run,) = runs()
    assert {"seconds.evaluate", "seconds.generate", "seconds.register"} <= set(run.data.tags)


def test_the_last_stage_publishes_what_register_did_not(project, registering):
    with stage("evaluate"):
        pass
    publish_deferred()
    (run,) = runs()
    assert run.info.status == "FINISHED"
    assert "seconds.evaluate" in run.data.tags
    assert "seconds.register" not in run.data.tags


def test_a_failing_generate_publishes_evaluate_too(project, registering):
    with stage("evaluate"):
        pass
    with pytest.raises(SystemExit), stage("generate"):
        raise UserError("generate.prompts: no")
    (run,) = runs()
    assert run.info.status == "FAILED"
    assert "seconds.evaluate" in run.data.tags


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("python /v/bin/dvc repro", True),
        ("python -m dvc repro -f", True),
        ("dvc exp run -S model.num_hidden=8 -n wider", True),
        ("dvc --wait-for-lock exp run --set-param=a.b=1", True),
        ("dvc repro evaluate", False),
        ("dvc exp run -S a.b=1 evaluate", False),
        ("dvc repro --single-item evaluate", False),
        ("python -m dvc --wait-for-lock exp run --temp -n x evaluate", False),
        ("dvc exp run --temp", False),
        ("dvc exp run --queue", False),
        ("dvc exp exec-run --infofile x", False),
        ("bash", False),
        ("", False),
    ],
)
def test_commands_that_run_all_stages_are_recognised(command, expected):
    assert runs_all_stages(command.split()) is expected

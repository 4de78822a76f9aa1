"""Publishing: the one way in which stages' records get into an MLflow run.

One run per execution of the pipeline. Whoever publishes a stage publishes the stages it rests on with it, so that
every row in `mlflow ui` is complete also when most stages did not need to run.
"""

import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

from pipeline.params.reader import PARAMS_FILE, flatten, read_yaml
from pipeline.tracking.project import experiment_name, git_state
from pipeline.tracking.records import Record, read_record, stages_before
from pipeline.tracking.session import Session
from pipeline.tracking.store import open_store

# MLflow's own limits for one call and for a tag's or a param's length.
METRICS_PER_CALL = 1000
PARAMS_PER_CALL = 100
MAX_VALUE = 5000

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]


def publish(session: Session, stage: str, *, status: Status, with_stage: bool, error: str | None = None) -> str:
    """Send the records of the stages before `stage` (and its own if `with_stage`); returns the run's id.

    What this session has sent already is not sent again. The session is saved.
    """
    with open_store() as (client, experiment_id):
        if session.run_id is None:
            session.run_id = _create_run(client, experiment_id)
        for name in [*stages_before(stage), *([stage] if with_stage else [])]:
            if name not in session.published:
                record = read_record(name, Path.cwd())
                if name in session.seconds:  # what ran here has sent part of its curve already
                    record = replace(record, curve=[point for point in record.curve if point[0] > session.live_step])
                _send(client, session.run_id, record, session.seconds.get(name))
                session.published.append(name)
                session.save()
        if error is not None:
            client.set_tag(session.run_id, "charlm.error", f"{stage}: {error}"[:MAX_VALUE])
        if status == "RUNNING":
            client.update_run(session.run_id, status="RUNNING")
        else:
            client.set_terminated(session.run_id, status=status)
        session.save()
        return session.run_id


def mark_continuation(session: Session, earlier: str) -> None:
    """Say in both runs that this session's continues `earlier`, whose training was cut short and has now ended."""
    with open_store() as (client, _):
        client.set_tag(session.run_id, "charlm.continues", earlier)
        client.set_tag(earlier, "charlm.continued_by", session.run_id)
        client.set_terminated(earlier, status="FINISHED")


def _create_run(client: MlflowClient, experiment_id: str) -> str:
    git, name = git_state(), experiment_name()
    tags = {
        "git.commit": git.commit,
        "git.clean": str(git.clean).lower(),
        "mlflow.source.name": "dvc exp run" if name else "dvc repro",
        "mlflow.source.git.commit": git.commit,
    }
    if name:
        tags["dvc.experiment"] = name
    now = datetime.now(tz=UTC)
    run = client.create_run(experiment_id, run_name=name or f"repro {now:%Y-%m-%d %H:%M:%S}", tags=tags)
    params = flatten(read_yaml(PARAMS_FILE))
    entities = [Param(key, str(value)[:MAX_VALUE]) for key, value in params.items()]
    for at in range(0, len(entities), PARAMS_PER_CALL):
        client.log_batch(run.info.run_id, params=entities[at : at + PARAMS_PER_CALL])
    return str(run.info.run_id)


def _send(client: MlflowClient, run_id: str, record: Record, seconds: float | None) -> None:
    now = int(time.time() * 1000)
    metrics = [Metric(key, value, now, 0) for key, value in record.metrics.items()]
    if record.curve:
        # Points lie as far apart as they were measured, so that curves overlay by time as well as by step.
        start = now - int(record.curve[-1][1] * 1000)
        metrics += [
            Metric(key, value, start + int(at * 1000), step)
            for step, at, values in record.curve
            for key, value in values.items()
        ]
    tags = [RunTag(key, value[:MAX_VALUE]) for key, value in record.tags.items()]
    if seconds is not None:
        tags.append(RunTag(f"seconds.{record.stage}", f"{seconds:.1f}"))
    for at in range(0, len(metrics), METRICS_PER_CALL):
        client.log_batch(run_id, metrics=metrics[at : at + METRICS_PER_CALL])
    client.log_batch(run_id, tags=tags)
    if record.stage == "split" and record.tags:
        _log_dataset(client, run_id, record)
    for path in record.artifacts:
        if path.is_dir():
            client.log_artifacts(run_id, str(path), f"{record.stage}/{path.name}")
        else:
            client.log_artifact(run_id, str(path), record.stage)


def _log_dataset(client: MlflowClient, run_id: str, record: Record) -> None:
    source = json.dumps({"data.source": read_yaml(PARAMS_FILE)["data"]["source"]})
    inputs = [
        DatasetInput(
            Dataset(
                name=f"text-{split}",
                digest=record.tags[f"split.{split}_sha256"][:36],
                source_type="text",
                source=source,
            ),
            tags=[InputTag("mlflow.data.context", split)],
        )
        for split in ("train", "eval")
    ]
    client.log_inputs(run_id, datasets=inputs)

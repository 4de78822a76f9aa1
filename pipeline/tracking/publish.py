"""Publishing: the one way in which stages' records get into an MLflow run.

One run per execution of the pipeline. Whoever publishes a stage publishes the stages it rests on with it, so that
every row in `mlflow ui` is complete also when most stages did not need to run. Where the files come from does not
matter: a running stage, what was kept while a server was away, or a revision that DVC has restored.
"""

import json
import tempfile
import textwrap
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from pipeline.core.errors import one_line
from pipeline.core.files import read_json, write_json
from pipeline.params.reader import PARAMS_FILE, read_yaml
from pipeline.splitting.assignment import NAMES
from pipeline.tracking.execution import MAX_VALUE, Execution, environment
from pipeline.tracking.records import Record, read_record
from pipeline.tracking.session import Session, Status
from pipeline.tracking.settings import tracking_uri
from pipeline.tracking.store import open_store
from pipeline.tracking.view import update_view

SAMPLE_CHARS = 400
# A longer line in the note pushes MLflow's box "About this run" off the page.
SAMPLE_WIDTH = 80


def run_description(folder: Path, *, stages: Collection[str], changed: str) -> str:
    """Return the note of the execution whose files lie in `folder`.

    Only of `stages`, those that it has done: the files of the others may be an earlier execution's.
    """
    evaluate = _read(folder / "metrics/evaluate.json") if "evaluate" in stages else None
    train = _read(folder / "metrics/train.json") if "train" in stages else None
    samples = _read(folder / "samples/samples.json") if "generate" in stages else None
    figures = []
    if evaluate:
        figures += [
            f"**perplexity {evaluate['perplexity']:.3f}**",
            *_baseline(evaluate),
            f"{evaluate['bits_per_char']:.3f} bits per character",
            f"accuracy {evaluate['accuracy']:.1%} of {evaluate['num_chars']:,} characters",
        ]
    if train:
        figures += [f"{train['parameters']:,} parameters", f"{train['seconds']:.0f} s of training"]
    parts = [" · ".join(figures), f"Changed against its baseline: {_code(changed)}" if changed else ""]
    if samples:
        chosen = next((one for one in samples if one["mode"] == "sampled"), samples[0])
        text = f"{chosen['prompt']}{chosen['completion']}"[:SAMPLE_CHARS]
        parts += [f"A sample, temperature {chosen['temperature']}:", _fenced(_wrapped(text))]
    return "\n\n".join(part for part in parts if part)


def _baseline(evaluate: dict[str, Any]) -> list[str]:
    found = evaluate.get("baseline_perplexity")
    return [] if found is None else [f"n-gram baseline {found:.3f} ({evaluate['baseline']})"]


def _code(text: str) -> str:
    return f"`{text.replace('`', '')}`"


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.fill(line, SAMPLE_WIDTH) for line in text.split("\n"))


def _fenced(text: str) -> str:
    longest = max((len(run) for run in text.split() if set(run) == {"`"}), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def _read(path: Path) -> Any:
    try:
        return read_json(path)
    except (OSError, ValueError):
        return None


# MLflow allows 36 characters; the tag split.train_sha256 has all 64.
DIGEST_LENGTH = 36


def log_datasets(client: MlflowClient, run_id: str, split: Record, folder: Path) -> None:
    """Log the train, eval and test texts of the record of `split`; nothing for a text that it does not have."""
    params = read_yaml(folder / PARAMS_FILE)
    source = str(params["data"]["source"])
    inputs = [
        DatasetInput(
            Dataset(
                name=Path(source).name or source,
                digest=digest[:DIGEST_LENGTH],
                source_type="text",
                source=json.dumps(params["data"]),
                profile=json.dumps(_profile(split, side)),
            ),
            tags=[InputTag("mlflow.data.context", side)],
        )
        for side in NAMES
        if (digest := split.tags.get(f"split.{side}_sha256"))
    ]
    client.log_inputs(run_id, datasets=inputs)


def _profile(split: Record, side: str) -> dict[str, int]:
    """Return the sizes of a text, as far as the split has counted them."""
    sizes = {
        "characters": split.tags.get(f"split.{side}_chars"),
        "documents": split.tags.get(f"split.{side}_documents"),
        "dictionary_size": split.tags.get("split.dictionary_size"),
    }
    return {name: int(value) for name, value in sizes.items() if value is not None}


# MLflow's own limits for one call.
METRICS_PER_CALL = 1000
PARAMS_PER_CALL = 100
# The artifact folder with what `charlm trace` and `charlm verify` need.
TRACE = "trace"


def publish(
    execution: Execution, session: Session, stages: Sequence[str], *, status: Status, error: str | None = None
) -> str:
    """Send the records of `stages` to the session's run, made if need be; returns the run's id.

    What this session has sent already is not sent again. The session is saved.
    """
    with open_store() as (client, experiment_id):
        if session.run_id is None:
            session.run_id = _create_run(client, experiment_id, execution)
            session.save()
        for name in stages:
            if name not in session.published:
                record = read_record(name, execution.folder)
                own = {key: value for key, value in session.tags.items() if key.startswith(f"{name}.")}
                record = replace(record, tags=record.tags | own)
                if name in session.seconds:  # what ran here has sent part of its curve already
                    record = replace(record, curve=[point for point in record.curve if point[0] > session.live_step])
                _send(client, session.run_id, record, session.seconds.get(name), execution)
                session.published.append(name)
                session.save()
        text = run_description(
            execution.folder, stages=session.published, changed=execution.tags.get("charlm.changed", "")
        )
        client.set_tag(session.run_id, "mlflow.note.content", text)
        if error is not None:
            client.set_tag(session.run_id, "charlm.error", error[:MAX_VALUE])
        if status == "RUNNING":
            client.update_run(session.run_id, status="RUNNING")
        else:
            client.set_terminated(session.run_id, status=status, end_time=_milliseconds(execution.ended))
        with suppress(MlflowException):  # the view is a convenience: the run must not fail for it
            update_view(client, experiment_id, tracking_uri())
        return session.run_id


def mark_continuation(session: Session, earlier: str) -> None:
    """Say in both runs that this session's continues `earlier`, whose training was cut short and has now ended."""
    with open_store() as (client, _):
        client.set_tag(session.run_id, "charlm.continues", earlier)
        client.set_tag(earlier, "charlm.continued_by", session.run_id)
        client.set_terminated(earlier, status="FINISHED")


def _create_run(client: MlflowClient, experiment_id: str, execution: Execution) -> str:
    tags = {key: value[:MAX_VALUE] for key, value in execution.tags.items()}
    start = _milliseconds(execution.ended)
    run = client.create_run(experiment_id, run_name=execution.name, tags=tags, start_time=start)
    entities = [Param(key, value) for key, value in execution.params().items()]
    for at in range(0, len(entities), PARAMS_PER_CALL):
        client.log_batch(run.info.run_id, params=entities[at : at + PARAMS_PER_CALL])
    with tempfile.TemporaryDirectory(prefix="charlm-") as temporary:
        (Path(temporary) / "changes.patch").write_bytes(execution.patch)
        write_json(Path(temporary) / "environment.json", execution.environment or environment())
        client.log_artifacts(run.info.run_id, temporary, TRACE)
    return str(run.info.run_id)


def _send(client: MlflowClient, run_id: str, record: Record, seconds: float | None, execution: Execution) -> None:
    now = _milliseconds(execution.ended)
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
        log_datasets(client, run_id, record, execution.folder)
    if record.stage == "register":
        _log_report(client, run_id, execution)
    for path in record.artifacts:
        if path.is_dir():
            client.log_artifacts(run_id, str(path), f"{record.stage}/{path.name}")
        else:
            client.log_artifact(run_id, str(path), record.stage)


def _log_report(client: MlflowClient, run_id: str, execution: Execution) -> None:
    """Log the report, which is for people: a run without it is whole, and says what was in the way."""
    from pipeline.reporting.project import Project
    from pipeline.reporting.report import build_report  # altair and the engine: for this stage only

    try:
        page = build_report([Project(execution.name, execution.folder, execution.facts)])
        client.log_text(run_id, page, "report.html")
    except Exception as problem:  # noqa: BLE001  whatever it is, the figures must not be lost for it
        client.set_tag(run_id, "charlm.report_error", one_line(problem)[:MAX_VALUE])


def _milliseconds(moment: float | None) -> int:
    return int((time.time() if moment is None else moment) * 1000)

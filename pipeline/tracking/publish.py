"""Sends the stages' records, and the curve of a running training, to MLflow: one run per execution of the pipeline.

Publishing a stage also publishes the stages that it needs, so that every run in `mlflow ui` is complete, also if most
stages did not need to run. The files may be those of a running stage, those saved while a server was unreachable, or
those of a revision that DVC restored.
"""

import json
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import psutil
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from pipeline.core.errors import UserError, one_line, without_secrets
from pipeline.core.files import write_json
from pipeline.dataset.sides import NAMES
from pipeline.params.reader import PARAMS_FILE, read_yaml
from pipeline.params.text import refuse_secrets, source_name
from pipeline.tracking.execution import MAX_VALUE, Execution, Session, Status, environment
from pipeline.tracking.records import Point, Record, read_record
from pipeline.tracking.store import open_store, tracking_uri
from pipeline.tracking.view import run_description, update_view

# MLflow's limits: the length of a data set's hash (the tag split.train_sha256 has all 64 digits), items in one call.
DIGEST_LENGTH, METRICS_PER_CALL, PARAMS_PER_CALL = 36, 1000, 100
# The artifact folder with the files that `charlm trace` and `charlm verify` need.
TRACE = "trace"
# A live curve is sent this often; the end of training waits at most this long for a batch that is being sent.
FLUSH_SECONDS, JOIN_SECONDS = 5.0, 10.0


def log_datasets(client: MlflowClient, run_id: str, split: Record, folder: Path) -> None:
    """Log the train, eval and test texts as data sets, from the record of `split`; one without a hash is left out."""
    params = read_yaml(folder / PARAMS_FILE)
    source = str(params["data"]["source"])
    inputs = [
        DatasetInput(
            Dataset(
                name=source_name(source),
                digest=digest[:DIGEST_LENGTH],
                source_type="text",
                source=json.dumps(params["data"] | {"source": without_secrets(source)}),
                profile=json.dumps(_profile(split, side)),
            ),
            tags=[InputTag("mlflow.data.context", side)],
        )
        for side in NAMES
        if (digest := split.tags.get(f"split.{side}_sha256"))
    ]
    client.log_inputs(run_id, datasets=inputs)


def _profile(split: Record, side: str) -> dict[str, int]:
    """Return the sizes of a text that the record of `split` has."""
    sizes = {
        "characters": split.tags.get(f"split.{side}_chars"),
        "documents": split.tags.get(f"split.{side}_documents"),
        "dictionary_size": split.tags.get("split.dictionary_size"),
    }
    return {name: int(value) for name, value in sizes.items() if value is not None}


def publish(
    execution: Execution, session: Session, stages: Sequence[str], *, status: Status, error: str | None = None
) -> str:
    """Send the records of `stages` to the session's run, which is created if it has none; returns the run's id.

    Records that this session has already sent are skipped. The session is saved. UserError if `data.source` contains
    credentials, as in a commit of an earlier release: the run has params.yaml, dvc.lock and the patch.
    """
    try:
        refuse_secrets(str(read_yaml(execution.folder / PARAMS_FILE).get("data", {}).get("source", "")))
    except ValueError as problem:
        raise UserError(f"data.source: {problem}") from None
    with open_store() as (client, experiment_id):
        if session.run_id is None:
            session.run_id = _create_run(client, experiment_id, execution)
            session.save()
        for name in stages:
            if name not in session.published:
                record = read_record(name, execution.folder)
                own = {key: value for key, value in session.tags.items() if key.startswith(f"{name}.")}
                record = replace(record, tags=record.tags | own)
                if name in session.seconds:  # it ran here, and sent part of its curve while it ran
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
        with suppress(MlflowException):  # the view is only a convenience
            update_view(client, experiment_id, tracking_uri())
        return session.run_id


def mark_continuation(session: Session, earlier: str) -> None:
    """Tag this session's run and the run `earlier`, whose interrupted training it has resumed and finished."""
    with open_store() as (client, _):
        client.set_tag(session.run_id, "charlm.continues", earlier)
        client.set_tag(earlier, "charlm.continued_by", session.run_id)
        client.set_terminated(earlier, status="FINISHED")


def _create_run(client: MlflowClient, experiment_id: str, execution: Execution) -> str:
    tags = {key: value[:MAX_VALUE] for key, value in execution.tags.items()}
    start = _milliseconds(execution.ended)
    run = client.create_run(experiment_id, run_name=execution.name, tags=tags, start_time=start)
    log_params(client, run.info.run_id, execution.params())
    with tempfile.TemporaryDirectory(prefix="charlm-") as temporary:
        (Path(temporary) / "changes.patch").write_bytes(execution.patch)
        write_json(Path(temporary) / "environment.json", execution.environment or environment())
        client.log_artifacts(run.info.run_id, temporary, TRACE)
    return str(run.info.run_id)


def _send(client: MlflowClient, run_id: str, record: Record, seconds: float | None, execution: Execution) -> None:
    now = _milliseconds(execution.ended)
    metrics = [Metric(key, value, now, 0) for key, value in record.metrics.items()]
    if record.curve:
        metrics += curve_metrics(record.curve, end=now)
    tags = [RunTag(key, value[:MAX_VALUE]) for key, value in record.tags.items()]
    if seconds is not None:
        tags.append(RunTag(f"seconds.{record.stage}", f"{seconds:.1f}"))
    log_metrics(client, run_id, metrics)
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
    """Log the report. If it cannot be built, the run gets a tag that says why: its figures matter more."""
    from pipeline.reporting.project import Project
    from pipeline.reporting.report import build_report  # altair and the engine: for this stage only

    try:
        page = build_report([Project(execution.name, execution.folder, execution.facts)])
        client.log_text(run_id, page, "report.html")
    except Exception as problem:  # noqa: BLE001  whatever it is, the figures are logged
        client.set_tag(run_id, "charlm.report_error", one_line(problem)[:MAX_VALUE])


def curve_metrics(points: Sequence[Point], *, end: int) -> list[Metric]:
    """Return the points of a curve whose last one was measured at `end` (Unix milliseconds).

    They get the times at which they were measured, so that curves can be compared by time as well as by step.
    """
    start = end - int(points[-1][1] * 1000)
    return [
        Metric(key, value, start + int(seconds * 1000), step)
        for step, seconds, values in points
        for key, value in values.items()
    ]


def log_params(client: MlflowClient, run_id: str, params: Mapping[str, str]) -> None:
    """Log any number of params; one call of MLflow takes PARAMS_PER_CALL."""
    entities = [Param(key, value) for key, value in params.items()]
    for at in range(0, len(entities), PARAMS_PER_CALL):
        client.log_batch(run_id, params=entities[at : at + PARAMS_PER_CALL])


def log_metrics(client: MlflowClient, run_id: str, metrics: list[Metric]) -> None:
    """Log any number of metrics; one call of MLflow takes METRICS_PER_CALL."""
    for at in range(0, len(metrics), METRICS_PER_CALL):
        client.log_batch(run_id, metrics=metrics[at : at + METRICS_PER_CALL])


def _milliseconds(moment: float | None) -> int:
    return int((time.time() if moment is None else moment) * 1000)


class LiveCurve:
    """Sends points to one run while training continues, together with the machine's load.

    A thread sends them in batches, so that a slow or unreachable server costs no time. It gives up at the first
    failure; the rest is sent with the stage's record. (MLflow's own asynchronous logging tries
    each batch, also after a failure, and the process waits for all of them at its end.)
    """

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.sent_to_step = 0
        self._points: list[Point] = []
        self._num_sent = 0
        self._ending = threading.Event()
        self._guard = threading.Lock()
        self._thread = threading.Thread(target=self._send_until_end, name="live-curve", daemon=True)
        self._thread.start()

    def add(self, step: int, seconds: float, values: Mapping[str, float]) -> None:
        """Add a point of the curve: names to values at `step`, `seconds` after training started."""
        with self._guard:
            self._points.append((step, seconds, values))

    def end(self) -> None:
        """Send the remaining points and stop; returns soon, whatever the server does."""
        self._ending.set()
        self._thread.join(JOIN_SECONDS)

    def _send_until_end(self) -> None:
        psutil.cpu_percent()  # the first call only starts the measurement
        ending = False
        while not ending:
            ending = self._ending.wait(FLUSH_SECONDS)
            with self._guard:
                points, self._points = self._points, []
            try:
                self._send(points)
            except Exception:  # noqa: BLE001  the training continues whatever the reason
                return

    def _send(self, points: list[Point]) -> None:
        now = _milliseconds(None)
        self._num_sent += 1
        metrics = [Metric(f"system/{name}", value, now, self._num_sent) for name, value in _load().items()]
        if points:
            metrics += curve_metrics(points, end=now)
        with open_store() as (client, _):
            log_metrics(client, self.run_id, metrics)
        if points:
            self.sent_to_step = points[-1][0]


@contextmanager
def live_curves(run_ids: list[str]) -> Iterator[list[LiveCurve]]:
    """Give a live curve for each run, until the block ends."""
    curves = [LiveCurve(run_id) for run_id in run_ids]
    try:
        yield curves
    finally:
        for curve in curves:
            curve.end()


def _load() -> dict[str, float]:
    # MLflow's names, so that its pages show them under "System metrics".
    memory = psutil.virtual_memory()
    return {
        "cpu_utilization_percentage": psutil.cpu_percent(),
        "system_memory_usage_megabytes": (memory.total - memory.available) / 1e6,
        "system_memory_usage_percentage": memory.percent,
    }

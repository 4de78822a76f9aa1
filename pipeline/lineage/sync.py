"""Adds to MLflow what it lacks: records saved while it was unreachable, and experiments restored from DVC's cache.

Nothing is added twice: a run with the same experiment (or, for the workspace, the same params, data and perplexity)
counts as its run. Only one `charlm sync` runs at a time; if it is killed, the next one removes its unfinished run.
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException

from pipeline.core.errors import UserError, one_line, without_secrets
from pipeline.params.reader import PARAMS_FILE, is_in_step, is_locked, stages_in_step
from pipeline.serving.registration import register_model
from pipeline.tracking.differences import changed_params, changes, facts_here, facts_of, params_of, run_name
from pipeline.tracking.execution import MAX_VALUE, Execution, Session, UnsentRun, environment, list_unsent
from pipeline.tracking.project import (
    Experiment,
    baseline,
    experiments,
    file_at,
    patch_since,
    project_root,
    state_folder,
)
from pipeline.tracking.publish import publish
from pipeline.tracking.records import STAGES, read_record, snapshot
from pipeline.tracking.store import check_server, open_store, store_hash, tracking_uri


def all_runs(client: MlflowClient, experiment_id: str, view: int = ViewType.ACTIVE_ONLY) -> list[Run]:
    """Return all runs of the MLflow experiment, newest first; `view` selects active or deleted ones."""
    found: list[Run] = []
    token: str | None = None
    while True:
        page = client.search_runs([experiment_id], run_view_type=view, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


RESTORED_TAG = "charlm.restored"
# The file that names the run that is being created, so that the next sync can remove it if this one is killed.
UNFINISHED = "sync.json"
FIGURES = "metrics/evaluate.json"


def sync() -> Iterator[str]:
    """Send saved records and create missing runs; yields a line for each. UserError if MLflow is unreachable."""
    state_folder().mkdir(parents=True, exist_ok=True)
    with FileLock(state_folder() / "sync.lock"):
        # First the records that could not be sent; then the experiments that no run belongs to.
        for one in list_unsent():
            yield (
                _send_unsent(one)
                if isinstance(one, UnsentRun)
                else f"warning: {_damaged(one)} cannot be read and was left"
            )
        runs = _runs()
        for experiment in experiments():
            if not any(_is_run_of(run, experiment) for run in runs):
                with snapshot(experiment.commit) as folder:
                    yield _restore(_of_experiment(experiment, folder))
        # The workspace's results may be those of an experiment that was applied, or of a run that exists.
        here = _of_workspace()
        if here and not any(_has_result_of(run, here) for run in runs):
            yield _restore(here)


def _send_unsent(one: UnsentRun) -> str:
    session = one.session
    # Another store, or a run that was deleted: everything is sent to a new run.
    if one.store != store_hash(tracking_uri()) or not _exists(session.run_id):
        session.run_id, session.published, session.live_step, session.registered = None, [], 0, False
    try:
        run_id = publish(one.execution, session, one.stages, status=one.status, error=one.error)
        line = f"{one.execution.name}: the saved record is sent"
        if "register" in one.stages and not session.registered:
            line += f"; {register_model(one.execution, run_id=run_id)}"
            session.registered = True
    except (UserError, ValueError, KeyError) as error:
        check_server()
        return f"warning: {_damaged(one.path)} cannot be sent and was left: {one_line(error)}"
    _update_live_session(session, one)
    shutil.rmtree(one.path)
    return line


def _update_live_session(session: Session, one: UnsentRun) -> None:
    """Store the run in the session of an execution that is still running, and that it has nothing unsent."""
    live = Session.read(state_folder() / "sessions" / f"{session.key}.json")
    if live and live.unsent == one.path.name:
        live.run_id, live.published, live.registered = session.run_id, session.published, session.registered
        live.unsent = None
        live.save()


def _damaged(path: Path) -> str:
    return str(path.relative_to(project_root()))


def _restore(execution: Execution) -> str:
    session = Session(key="sync", path=state_folder() / UNFINISHED)
    stages = stages_in_step(execution.folder)
    try:
        publish(execution, session, [name for name in STAGES if name in stages], status="FINISHED")
    except UserError as error:
        check_server()
        return f"warning: {execution.name} cannot be sent: {one_line(error)}"
    session.path.unlink(missing_ok=True)
    return f"{execution.name}: created from what DVC holds"


def _of_experiment(experiment: Experiment, folder: Path) -> Execution:
    return Execution(
        folder=folder,
        name=run_name(experiment.name, changed_params(experiment.baseline, experiment.commit), default=experiment.name),
        tags=_tags(experiment.baseline, experiment.commit) | {"dvc.experiment": experiment.name},
        patch=patch_since(experiment.baseline, experiment.commit),
        ended=experiment.created,
        environment={"note": "restored from DVC's cache: the environment that produced it is unknown"},
        facts=facts_of(experiment.commit),
    )


def _of_workspace() -> Execution | None:
    """Return the execution that produced the workspace, None if its results do not belong to its params."""
    root = project_root()
    figures = root / FIGURES
    # After `git checkout` without `dvc checkout` the figures may still be another experiment's.
    if not is_in_step(root) or not is_locked(root, FIGURES):
        return None
    made, commit = figures.stat().st_mtime, baseline()
    ran = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(made))
    return Execution(
        folder=root,
        name=run_name(None, changed_params(commit), default=f"repro {ran}"),
        tags=_tags(commit, None),
        patch=patch_since(commit),
        ended=made,
        environment=environment(),
        facts=facts_here(),
    )


def _tags(commit: str, revision: str | None) -> dict[str, str]:
    changed = changes(commit, revision)
    return {
        "git.commit": commit,
        "git.clean": str(not (changed.params or changed.files)).lower(),
        "dvc.baseline": commit,
        "charlm.changed": str(changed),
        "mlflow.source.name": "charlm sync",
        "mlflow.source.git.commit": commit,
        RESTORED_TAG: "true",
    }


def _is_run_of(run: Run, experiment: Experiment) -> bool:
    tags = run.data.tags
    if tags.get("dvc.experiment") != experiment.name or tags.get("dvc.baseline") != experiment.baseline:
        return False
    params = params_of(file_at(experiment.commit, PARAMS_FILE.name))
    return bool(run.data.params == {key: without_secrets(str(value))[:MAX_VALUE] for key, value in params.items()})


def _has_result_of(run: Run, execution: Execution) -> bool:
    evaluate = read_record("evaluate", execution.folder)
    # Among the tags is how the figures were measured.
    data = read_record("split", execution.folder).tags | evaluate.tags
    return (
        run.data.params == execution.params()
        and all(run.data.metrics.get(name) == value for name, value in evaluate.metrics.items())
        and all(run.data.tags.get(name) == value for name, value in data.items())
    )


def _runs() -> list[Run]:
    """Return all runs that did not fail; first removes the run that a killed sync left unfinished."""
    unfinished = Session.read(state_folder() / UNFINISHED)
    with open_store() as (client, experiment_id):
        if unfinished and unfinished.run_id:
            with suppress(MlflowException):  # it was deleted since
                client.delete_run(unfinished.run_id)
            unfinished.path.unlink()
        return [run for run in all_runs(client, experiment_id) if run.info.status != "FAILED"]


def _exists(run_id: str | None) -> bool:
    if run_id is None:
        return False
    with open_store() as (client, _):
        try:
            return bool(client.get_run(run_id).info.lifecycle_stage == "active")
        except MlflowException:
            return False

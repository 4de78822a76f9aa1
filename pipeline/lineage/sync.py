"""What MLflow lacks: records kept while it was away, and experiments that DVC restored without running code.

Never twice: a run that has the same experiment (or, for the workspace, the same params, data and perplexity) is the
run. One `charlm sync` at a time; one that was killed leaves a run that the next one removes.
"""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from pipeline.lineage.runs import all_runs
from pipeline.serving.registration import register_model
from pipeline.tracking.execution import Execution, environment
from pipeline.tracking.facts import changes, facts_here, facts_of, told
from pipeline.tracking.git import patch_since
from pipeline.tracking.lock import stages_in_step
from pipeline.tracking.outbox import Kept, kept
from pipeline.tracking.project import baseline, project_root, state_folder
from pipeline.tracking.publish import publish
from pipeline.tracking.records import STAGES, read_record
from pipeline.tracking.session import Session
from pipeline.tracking.snapshots import Experiment, experiments, snapshot
from pipeline.tracking.store import open_store, tracking_uri

RESTORED_TAG = "charlm.restored"


def sync() -> Iterator[str]:
    """Send what was kept and make the runs that are missing; yields a line for each. UserError if MLflow is away."""
    state_folder().mkdir(parents=True, exist_ok=True)
    with FileLock(state_folder() / "sync.lock"):
        for one in kept():
            yield _send_kept(one)
        runs = _whole_runs()
        for experiment in experiments():
            with snapshot(experiment.commit) as folder:
                execution = _of_experiment(experiment, folder)
                if not any(_is_run_of(run, execution) for run in runs):
                    yield _restore(execution)
        here = _of_workspace()
        if here and not any(_has_result_of(run, here) for run in runs):
            yield _restore(here)


def _send_kept(one: Kept) -> str:
    session = one.session
    if one.uri != tracking_uri() or not _exists(session.run_id):
        session.run_id, session.published, session.live_step, session.registered = None, [], 0, False
    run_id = publish(one.execution, session, one.stages, status=one.status, error=one.error)
    line = f"{one.execution.name}: what was kept is sent"
    if "register" in one.stages and not session.registered:
        line += f"; {register_model(one.execution, run_id=run_id)}"
    shutil.rmtree(one.path)
    return line


def _restore(execution: Execution) -> str:
    session = Session(key="sync", path=state_folder() / "sync.json")
    stages = stages_in_step(execution.folder)
    publish(execution, session, [name for name in STAGES if name in stages], status="FINISHED")
    session.path.unlink(missing_ok=True)
    return f"{execution.name}: made from what DVC holds"


def _of_experiment(experiment: Experiment, folder: Path) -> Execution:
    return Execution(
        folder=folder,
        name=experiment.name,
        tags=_tags(experiment.baseline, experiment.commit) | {"dvc.experiment": experiment.name},
        patch=patch_since(experiment.baseline, experiment.commit),
        ended=experiment.made,
        environment={"note": "restored from DVC's cache: the environment that made it is not known"},
        facts=facts_of(experiment.commit),
    )


def _of_workspace() -> Execution | None:
    """Return the project as it lies there, None if its results are not those of its params."""
    root = project_root()
    if "evaluate" not in stages_in_step(root):
        return None
    made = (root / "metrics/evaluate.json").stat().st_mtime
    return Execution(
        folder=root,
        name=f"repro {time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(made))}",
        tags=_tags(baseline(), None),
        patch=patch_since(baseline()),
        ended=made,
        environment=environment(),
        facts=facts_here(),
    )


def _tags(commit: str, revision: str | None) -> dict[str, str]:
    changed = changes(commit, revision)
    return {
        "git.commit": commit,
        "git.clean": str(not changed).lower(),
        "dvc.baseline": commit,
        "charlm.changed": told(changed),
        "mlflow.source.name": "charlm sync",
        "mlflow.source.git.commit": commit,
        RESTORED_TAG: "true",
    }


def _is_run_of(run: Run, execution: Execution) -> bool:
    names = ("dvc.experiment", "dvc.baseline")
    same = all(run.data.tags.get(name) == execution.tags[name] for name in names)
    return same and run.data.params == execution.params()


def _has_result_of(run: Run, execution: Execution) -> bool:
    figures = read_record("evaluate", execution.folder).metrics | read_record("split", execution.folder).metrics
    data = read_record("split", execution.folder).tags
    return (
        run.data.params == execution.params()
        and all(run.data.metrics.get(name) == value for name, value in figures.items())
        and all(run.data.tags.get(name) == value for name, value in data.items())
    )


def _whole_runs() -> list[Run]:
    """Return the runs that count; what an earlier sync left unfinished is removed."""
    with open_store() as (client, experiment_id):
        runs = all_runs(client, experiment_id)
        halves = [run for run in runs if RESTORED_TAG in run.data.tags and run.info.status == "RUNNING"]
        for run in halves:
            client.delete_run(run.info.run_id)
    return [run for run in runs if run not in halves and run.info.status != "FAILED"]


def _exists(run_id: str | None) -> bool:
    if run_id is None:
        return False
    with open_store() as (client, _):
        return _found(client, run_id)


def _found(client: MlflowClient, run_id: str) -> bool:
    try:
        return bool(client.get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException:
        return False

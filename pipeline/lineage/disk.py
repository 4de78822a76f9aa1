"""Frees disk space: finds what is no longer needed (`find_waste`), and deletes it (`remove`). Also `relocate`.

Never deleted, whatever the age: versions with an alias, the one that a rollback would restore, those that other
registered versions started from (`train.start_from`), the runs that these come from, runs of experiments that DVC still
holds, and everything in DVC's cache that the workspace, a branch, a tag or an experiment needs.
"""

import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlparse

from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from pipeline.core.errors import UserError
from pipeline.lineage.sync import all_runs
from pipeline.tracking.execution import PARENT_TAG
from pipeline.tracking.project import experiments, project_root, state_folder
from pipeline.tracking.registry import BEFORE_TAG, START_SHA256_TAG, versions
from pipeline.tracking.store import CHAMPION, EXPERIMENT, WEIGHTS_TAG, check_database, open_store, tracking_uri

DAY = 86_400.0
# The scopes of `dvc gc` for which files are retained: everything that a person can still name.
NEEDED_BY = ("--workspace", "--all-branches", "--all-tags", "--all-experiments")


@dataclass(frozen=True)
class Waste:
    """Things of one kind that can be deleted: their names, bytes on this machine's disk, and how to delete them."""

    kind: str
    names: list[str]
    size: int
    remove: Callable[[], None]


def find_waste(model: str, *, days: float) -> list[Waste]:
    """Return what can be deleted: older than `days`, versions only of the registered model `model`. Deletes nothing."""
    before = time.time() - days * DAY
    with open_store() as (client, experiment_id):
        registered = _all_versions(client)
        own = [one for one in registered if one.name == model]
        old_versions = [one for one in _unneeded(own, registered) if one.creation_timestamp < before * 1000]
        numbers = {one.version for one in old_versions}
        needed = {one.run_id for one in registered if one.name != model or one.version not in numbers}
        runs = all_runs(client, experiment_id)
        old_runs = _old(runs, needed=needed, held={one.name for one in experiments()}, before=before)
        deleted = _deleted_runs(client) if _is_ours() else []
        models_size = sum(_model_size(client, _model_id(one)) for one in old_versions)
    found = [
        Waste(
            "model versions without an alias",
            [f"{model} {one.version}" for one in old_versions],
            models_size,
            lambda: _delete_versions(old_versions),
        ),
        _runs_waste("runs that no remaining version or experiment needs", old_runs, lambda: _delete_runs(old_runs)),
        _runs_waste("runs that were deleted already", deleted, lambda: None),  # `mlflow gc` in `remove` purges them
        *([] if shared_cache() else [_dvc_cache()]),
        _checkpoints(before),
        _downloads(before),
    ]
    return [one for one in found if one.names]


def remove(waste: Iterable[Waste]) -> None:
    """Delete what `find_waste` found, permanently.

    `mlflow gc` runs only on the project's own database: a server, or a database that others may share, is the
    responsibility of its administrator.
    """
    for one in waste:
        one.remove()
    if _is_ours():
        uri = tracking_uri()
        _run_checked([sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", uri, "--tracking-uri", uri])


def shared_cache() -> Path | None:
    """Return DVC's cache folder if it is outside of the project (others may need its files), else None."""
    folder = Path(_run_checked([sys.executable, "-m", "dvc", "cache", "dir"]).strip())
    return None if folder.resolve().is_relative_to(project_root()) else folder


def _is_ours() -> bool:
    return tracking_uri() == f"sqlite:///{project_root()}/mlflow.db"


def _all_versions(client: MlflowClient) -> list[ModelVersion]:
    names: list[str] = []
    token: str | None = None
    while token is None or token:
        page = client.search_registered_models(page_token=token or None)
        names += [found.name for found in page]
        token = page.token or ""
    return [one for name in names for one in versions(client, name)]


def _deleted_runs(client: MlflowClient) -> list[Run]:
    everywhere = client.search_experiments(view_type=ViewType.ALL)
    return [run for one in everywhere for run in all_runs(client, one.experiment_id, ViewType.DELETED_ONLY)]


def _runs_waste(kind: str, runs: list[Run], delete: Callable[[], None]) -> Waste:
    size = sum(_size(_local(run.info.artifact_uri)) for run in runs)
    return Waste(kind, [run.info.run_name for run in runs], size, delete)


def _unneeded(own: list[ModelVersion], registered: list[ModelVersion]) -> list[ModelVersion]:
    """Return the versions without an alias that no rollback restores, and that no registered version started from."""
    rollback = {one.tags.get(BEFORE_TAG) for one in own if CHAMPION in one.aliases}
    started_from = {one.tags[START_SHA256_TAG] for one in registered if START_SHA256_TAG in one.tags}
    return [
        one
        for one in own
        if not one.aliases and str(one.version) not in rollback and one.tags.get(WEIGHTS_TAG) not in started_from
    ]


def _old(runs: list[Run], *, needed: set[str], held: set[str], before: float) -> list[Run]:
    old = [
        run
        for run in runs
        if run.info.status != "RUNNING"
        and (run.info.end_time or run.info.start_time) < before * 1000
        and run.info.run_id not in needed
        and run.data.tags.get("dvc.experiment") not in held
    ]
    # A sweep's run stays as long as one of its trials does.
    deleted = {run.info.run_id for run in old}
    parents = {run.data.tags.get(PARENT_TAG) for run in runs if run.info.run_id not in deleted}
    return [run for run in old if run.info.run_id not in parents]


def _dvc_cache() -> Waste:
    lines = _run_checked([*_dvc_gc(), "--dry"]).splitlines()
    paths = [Path(line.removeprefix("Removing ").strip()) for line in lines if line.startswith("Removing ")]
    return Waste(
        "outputs in DVC's cache that nothing needs",
        [path.name[:8] for path in paths],
        sum(_size(path) for path in paths),
        _delete_cache,
    )


def _delete_cache() -> None:
    _run_checked([*_dvc_gc(), "--force"])


def _dvc_gc() -> list[str]:
    return [sys.executable, "-m", "dvc", "gc", *NEEDED_BY]


def _checkpoints(before: float) -> Waste:
    """Find the checkpoints of interrupted trainings that were never resumed."""
    parent = state_folder() / "checkpoints"
    left = [path for path in parent.glob("*") if path.stat().st_mtime < before and not _is_locked(path / "lock")]
    left = [path for path in left if any(path.glob("*.safetensors"))]
    return Waste(
        "checkpoints of trainings that were never resumed",
        [path.name[:8] for path in left],
        sum(_size(path) for path in left),
        lambda: _delete_folders(left),
    )


def _downloads(before: float) -> Waste:
    """Find downloaded sources, and the files that belong to them, that were neither written nor read lately."""
    files = [path for path in (state_folder() / "downloads").glob("[!.]*") if path.is_file()]
    left = sorted(path for path in files if max(path.stat().st_mtime, path.stat().st_atime) < before)
    return Waste(
        "downloaded sources that were not read lately",
        [path.name for path in left],
        sum(_size(path) for path in left),
        lambda: _delete_files(left),
    )


def _delete_files(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _delete_folders(folders: list[Path]) -> None:
    for path in folders:
        shutil.rmtree(path, ignore_errors=True)


def _is_locked(path: Path) -> bool:
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


def _delete_versions(old: list[ModelVersion]) -> None:
    with open_store() as (client, _):
        for one in old:
            client.delete_model_version(one.name, str(one.version))
            with suppress(MlflowException):  # gone already
                client.delete_logged_model(_model_id(one))


def _delete_runs(old: list[Run]) -> None:
    with open_store() as (client, _):
        for run in old:
            for output in run.outputs.model_outputs if run.outputs else []:
                with suppress(MlflowException):  # gone with its version
                    client.delete_logged_model(output.model_id)
            client.delete_run(run.info.run_id)


def _run_checked(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise UserError(f"clean: {' '.join(command[2:4])} failed: {lines[-1] if lines else 'no message'}")
    return done.stdout + done.stderr


def _model_id(version: ModelVersion) -> str:
    """Return the id of the logged model of a version; MLflow's search leaves `model_id` empty."""
    return str(version.model_id or version.source.removeprefix("models:/"))


def _model_size(client: MlflowClient, model_id: str) -> int:
    try:
        return _size(_local(client.get_logged_model(model_id).artifact_location))
    except MlflowException:
        return 0


def _local(uri: str | None) -> Path | None:
    parsed = urlparse(uri or "")
    return Path(unquote(parsed.path)) if parsed.scheme == "file" else None


def _size(path: Path | None) -> int:
    if path is None or not path.exists():
        return 0
    if path.is_file():
        return path.stat().st_size
    return sum(one.stat().st_size for one in path.rglob("*") if one.is_file())


# The columns of MLflow's database with absolute addresses of artifacts.
ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
)


def relocate(root: Path) -> tuple[str, int]:
    """Correct mlflow.db in `root` after its folder was moved: MLflow stores artifact addresses as absolute paths.

    Returns the old folder and the number of changed addresses. UserError if there is no database or no experiment.
    """
    path = root / "mlflow.db"
    if not path.exists():
        raise UserError(f"mlflow.db: no such file in {root.name}; nothing was logged here yet")
    check_database(path)
    with closing(sqlite3.connect(path)) as database, database:  # one transaction
        found = database.execute("SELECT artifact_location FROM experiments WHERE name = ?", (EXPERIMENT,)).fetchone()
        if found is None:
            raise UserError(f"mlflow.db: no experiment {EXPERIMENT!r}")
        old, new = found[0].removesuffix("/mlruns"), root.resolve().as_uri()
        if old == new:
            return old, 0
        changed = 0
        for table, column in ADDRESSES:
            statement = (
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE {column} LIKE ? || '/mlruns/%' "  # noqa: S608
                f"OR {column} = ? || '/mlruns'"
            )
            changed += database.execute(statement, (new, len(old) + 1, old, old)).rowcount
    return old, changed

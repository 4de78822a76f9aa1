"""What MLflow could not be given: the stages' small files, kept until `charlm sync` sends them.

A copy, since the next execution overwrites the files themselves. Nothing here imports MLflow.
"""

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.files import read_json, whole_folder, write_json
from pipeline.tracking.execution import Execution, environment
from pipeline.tracking.project import state_folder
from pipeline.tracking.records import STAGES
from pipeline.tracking.session import Session, Status

MODEL = Path("models/charlm")


@dataclass(frozen=True)
class UnsentRun:
    """One execution's kept files: `stages` are those whose records the run lacks; `store` is where it was to go."""

    path: Path
    session: Session
    execution: Execution
    stages: list[str]
    status: Status
    error: str | None
    store: str


def save_unsent(
    execution: Execution,
    session: Session,
    stages: Sequence[str],
    *,
    status: Status,
    error: str | None,
    uri: str,
    now: float,
) -> None:
    """Keep what `stages` left in the execution's folder, in place of what the session has kept before."""
    if session.unsent is None:
        session.unsent = f"{int(now)}-{session.key}"
    with whole_folder(_outbox() / session.unsent) as folder:
        for name in _files(stages):
            _copy(execution.folder / name, folder / "files" / name)
        (folder / "changes.patch").write_bytes(execution.patch)
        write_json(
            folder / "execution.json",
            {
                "name": execution.name,
                "tags": execution.tags,
                "ended": now,
                "environment": environment(),
                "facts": execution.facts,
                "stages": list(stages),
                "status": status,
                "error": error,
                "store": store_hash(uri),
            },
        )
        Session(**{**vars(session), "path": folder / "session.json"}).save()
    session.save()


def forget_unsent(session: Session) -> None:
    """Remove what the session has kept: its run has it now."""
    if session.unsent is not None:
        shutil.rmtree(_outbox() / session.unsent, ignore_errors=True)
        session.unsent = None
        session.save()


def list_unsent() -> list[UnsentRun | Path]:
    """Return all that is kept, the oldest first; of what cannot be read, its folder."""
    return [_read(path) or path for path in sorted(_outbox().glob("[0-9]*"))]


def store_hash(uri: str) -> str:
    """Return what tells one store from another: an address may hold a password."""
    return hashlib.sha256(uri.encode()).hexdigest()[:16]


def _read(path: Path) -> UnsentRun | None:
    session = Session.read(path / "session.json")
    try:
        note = read_json(path / "execution.json")
        execution = Execution(
            folder=path / "files",
            name=note["name"],
            tags=note["tags"],
            patch=(path / "changes.patch").read_bytes(),
            ended=note["ended"],
            environment=note["environment"],
            facts=note["facts"],
        )
        rest = {key: note[key] for key in ("stages", "status", "error", "store")}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return UnsentRun(path=path, session=session, execution=execution, **rest) if session else None


def _outbox() -> Path:
    return state_folder() / "unsent"


def _files(stages: Sequence[str]) -> list[Path]:
    names = [Path("params.yaml")]
    for stage in stages:
        files = STAGES[stage]
        names += [Path(name) for name in (files.metrics, files.curve, *files.artifacts) if name]
    return [*dict.fromkeys(names), *([MODEL] if "register" in stages else [])]


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    elif source.exists():
        shutil.copyfile(source, target)

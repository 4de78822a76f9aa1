"""An execution of the pipeline: the session that its stages share, what MLflow gets, and what could not be sent yet.

The stages of an execution are separate processes. They share a `Session`, a small file in .charlm/sessions. What MLflow
gets is an `Execution`: an experiment's own commit does not exist while it runs, so MLflow gets the commit that it
builds on and a patch. If MLflow is unreachable, a copy of the files is saved as an `UnsentRun` until `charlm sync`.
Nothing here imports MLflow.
"""

import hashlib
import platform
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, TypeAdapter
from typing_extensions import TypedDict

from pipeline.core.errors import UserError, without_secrets
from pipeline.core.files import MODEL, read_checked, read_json, whole_folder, write_json
from pipeline.params.reader import PARAMS_FILE, flatten, read_yaml
from pipeline.tracking.differences import changed_params, changes, facts_here, run_name
from pipeline.tracking.project import (
    baseline,
    experiment_name,
    git_state,
    patch_since,
    session_name,
    state_folder,
)
from pipeline.tracking.records import STAGES
from pipeline.tracking.store import store_hash, tracking_uri

# Sessions on disk: older ones are deleted.
MAX_SESSIONS = 200
# The tag that MLflow groups runs by: a sweep's trials have it.
PARENT_TAG = "mlflow.parentRunId"
# MLflow's own limit for the length of a tag or a param.
MAX_VALUE = 5000

# MLflow's names for the state of a run.
Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]


def _known_stage(name: str) -> str:
    if name not in STAGES:
        raise ValueError(f"found {name!r}, allowed is a stage")
    return name


Stage = Annotated[str, AfterValidator(_known_stage)]


@dataclass
class Session:
    """What is known of one execution. `seconds` has an entry for each stage that ran in it.

    `published` are the stages whose records the MLflow run `run_id` has. `tags` are those that are in no file, as in
    `validate.drift`. `live_step` is the last step of the training curve that was sent during training. `registered` is
    whether the registry has the model. `unsent` is the folder with the files that MLflow could not be sent.
    """

    key: str
    path: Path
    run_id: str | None = None
    seconds: dict[Stage, float] = field(default_factory=dict)
    published: list[Stage] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    live_step: int = 0
    registered: bool = False
    unsent: Annotated[str, Field(pattern=r"^[\w-]+$")] | None = None

    @classmethod
    def current(cls) -> "Session":
        """Return the session of this process, a new one for the first stage of an execution."""
        key = hashlib.sha256(session_name().encode()).hexdigest()[:16]
        path = state_folder() / "sessions" / f"{key}.json"
        _delete_old(path.parent)
        return cls.read(path) or cls(key=key, path=path)

    @classmethod
    def read(cls, path: Path) -> "Session | None":
        """Return the session in a file, None if it cannot be read: what was to be published is then started anew."""
        try:
            return TypeAdapter(cls).validate_python({**read_json(path), "path": path})
        except (OSError, ValueError, TypeError):
            return None

    def save(self) -> None:
        """Write the session to its file."""
        content = asdict(self)
        del content["path"]
        write_json(self.path, content)

    def begin(self, stage: str) -> None:
        """Note that `stage` starts. A stage that this session's run already has starts a new run."""
        if stage in self.seconds and (stage in self.published or self.unsent):
            self.run_id, self.seconds, self.published, self.live_step = None, {}, [], 0
            self.registered, self.unsent, self.tags = False, None, {}
        self.published = [name for name in self.published if name != stage]
        self.tags = {name: value for name, value in self.tags.items() if not name.startswith(f"{stage}.")}


def _delete_old(folder: Path) -> None:
    sessions = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
    for path in sessions[:-MAX_SESSIONS]:
        path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Execution:
    """What MLflow gets: `folder` has the stages' files, and `patch` leads from the tag `dvc.baseline` to the code.

    `ended` (Unix seconds) and `environment` say when and where it ran, None for now and here; the report shows `facts`.
    """

    folder: Path
    name: str
    tags: dict[str, str]
    patch: bytes = b""
    ended: float | None = None
    environment: dict[str, Any] | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def params(self) -> dict[str, str]:
        """Return the params as MLflow stores them: flat strings, cut to MAX_VALUE characters, without credentials."""
        return {
            key: without_secrets(str(value))[:MAX_VALUE]
            for key, value in flatten(read_yaml(self.folder / PARAMS_FILE)).items()
        }


def execution_here() -> Execution:
    """Return the execution that this process is a stage of."""
    name, commit = experiment_name(), baseline()
    state = git_state()
    tags = {
        "git.commit": state.commit,
        "git.clean": str(state.clean).lower(),
        "dvc.baseline": commit,
        "charlm.changed": str(changes(commit)),
        "mlflow.source.name": "dvc exp run" if name else "dvc repro",
        "mlflow.source.git.commit": state.commit,
    }
    if name:
        tags["dvc.experiment"] = name
    return Execution(
        folder=Path.cwd(),
        name=run_name(name, changed_params(commit), default=f"repro {datetime.now(tz=UTC):%Y-%m-%d %H:%M:%S}"),
        tags=tags,
        patch=patch_since(commit) if commit else b"",
        facts=facts_here(),
    )


def environment() -> dict[str, Any]:
    """Return what a model's bytes may depend on besides code, params and data: machine, Python, packages."""
    packages = {package.metadata["Name"]: package.version for package in distributions()}
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        return f"{len(names)} x {names[0]}"
    except (OSError, IndexError):
        return platform.processor() or "unknown"


class _Unsent(TypedDict):
    """The content of execution.json in a saved run's folder."""

    name: str
    tags: dict[str, str]
    ended: float
    environment: dict[str, Any] | None
    facts: dict[str, Any]
    stages: list[Stage]
    status: Status
    error: str | None
    store: str


@dataclass(frozen=True)
class UnsentRun:
    """The saved files of one execution. `stages` are those whose records MLflow lacks; `store` identifies its store."""

    path: Path
    session: Session
    execution: Execution
    stages: list[str]
    status: Status
    error: str | None
    store: str


def save_unsent(
    execution: Execution, session: Session, stages: Sequence[str], *, status: Status, error: str | None, now: float
) -> None:
    """Save a copy of the files of `stages`, since the next execution overwrites them. Replaces an earlier copy."""
    if session.unsent is None:
        session.unsent = f"{int(now)}-{session.key}"
    with whole_folder(_unsent_folder() / session.unsent) as folder:
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
                "store": store_hash(tracking_uri()),
            },
        )
        Session(**{**vars(session), "path": folder / "session.json"}).save()
    session.save()


def delete_unsent(session: Session) -> None:
    """Delete the session's saved files, because its MLflow run has them now."""
    if session.unsent is not None:
        shutil.rmtree(_unsent_folder() / session.unsent, ignore_errors=True)
        session.unsent = None
        session.save()


def list_unsent() -> list[UnsentRun | Path]:
    """Return all saved runs, the oldest first; only the folder of one that cannot be read."""
    return [_read(path) or path for path in sorted(_unsent_folder().glob("[0-9]*"))]


def _read(path: Path) -> UnsentRun | None:
    session = Session.read(path / "session.json")
    try:
        content = read_checked(path / "execution.json", _Unsent)
        patch = (path / "changes.patch").read_bytes()
    except (OSError, UserError):
        return None
    if session is None:
        return None
    return UnsentRun(
        path=path,
        session=session,
        execution=Execution(
            folder=path / "files",
            name=content["name"],
            tags=content["tags"],
            patch=patch,
            ended=content["ended"],
            environment=content["environment"],
            facts=content["facts"],
        ),
        stages=content["stages"],
        status=content["status"],
        error=content["error"],
        store=content["store"],
    )


def _unsent_folder() -> Path:
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

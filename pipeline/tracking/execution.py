"""An execution of the pipeline as MLflow gets it: whose files, under which name, and what it was made from.

While an experiment runs its own commit does not exist, so what is kept is the commit that it builds on and the patch
from there.
"""

import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.params.reader import PARAMS_FILE, flatten, read_yaml
from pipeline.tracking.git import changed_files, file_at, git_state, patch_since
from pipeline.tracking.project import baseline, experiment_name

SHOWN_CHANGES = 12


@dataclass(frozen=True)
class Execution:
    """`folder` has the files of the stages; `patch` leads from the tag `dvc.baseline` to the code that ran.

    `ended` is when it ran (Unix seconds) and `environment` where, if that is not now and here.
    """

    folder: Path
    name: str
    tags: dict[str, str]
    patch: bytes = b""
    ended: float | None = None
    environment: dict[str, Any] | None = None

    def params(self) -> dict[str, str]:
        """Return the params as MLflow keeps them: flat, all strings."""
        return {key: str(value) for key, value in flatten(read_yaml(self.folder / PARAMS_FILE)).items()}


def execution_here() -> Execution:
    """Return the execution that this process is a stage of."""
    name, commit = experiment_name(), baseline()
    state = git_state()
    tags = {
        "git.commit": state.commit,
        "git.clean": str(state.clean).lower(),
        "dvc.baseline": commit,
        "charlm.changed": told(changes(commit)),
        "mlflow.source.name": "dvc exp run" if name else "dvc repro",
        "mlflow.source.git.commit": state.commit,
    }
    if name:
        tags["dvc.experiment"] = name
    return Execution(
        folder=Path.cwd(),
        name=name or f"repro {datetime.now(tz=UTC):%Y-%m-%d %H:%M:%S}",
        tags=tags,
        patch=patch_since(commit) if commit else b"",
    )


def changes(commit: str, revision: str | None = None, *, folder: Path | None = None) -> list[str]:
    """Return what differs from `commit`, one line each: params with both values, then other files by name."""
    if not commit:
        return []
    before = _params(file_at(commit, PARAMS_FILE.name, folder=folder))
    if revision:
        after = _params(file_at(revision, PARAMS_FILE.name, folder=folder))
    else:
        after = flatten(read_yaml((folder or Path()) / PARAMS_FILE))
    names = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    files = [name for name in changed_files(commit, revision, folder=folder) if name != PARAMS_FILE.name]
    return [*(f"{name} {_shown(before, name)} → {_shown(after, name)}" for name in names), *files]


def told(lines: list[str]) -> str:
    """Return `changes` as one line for a tag: "nothing" if there are none."""
    more = f" and {len(lines) - SHOWN_CHANGES} more" if len(lines) > SHOWN_CHANGES else ""
    return ", ".join(lines[:SHOWN_CHANGES]) + more if lines else "nothing"


def environment() -> dict[str, Any]:
    """Return what the bytes of a model may depend on besides code, params and data: machine, Python, packages."""
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


def _params(text: str | None) -> dict[str, Any]:
    return flatten(YAML(typ="safe", pure=True).load(text)) if text else {}


def _shown(params: dict[str, Any], name: str) -> str:
    return str(params[name]) if name in params else "absent"

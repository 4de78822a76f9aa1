"""An execution of the pipeline as MLflow gets it: whose files, under which name, and what it was made from.

While an experiment runs its own commit does not exist, so what is kept is the commit that it builds on and the patch
from there.
"""

import os
import platform
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from pipeline.params.reader import PARAMS_FILE, flatten, read_yaml
from pipeline.tracking.facts import changed_params, changes, facts_here, told
from pipeline.tracking.git import git_state, patch_since
from pipeline.tracking.naming import run_name
from pipeline.tracking.project import baseline, experiment_name

# Names the run that a sweep's trials are shown under, and the tag that MLflow groups by.
PARENT_VARIABLE, PARENT_TAG = "CHARLM_PARENT_RUN", "mlflow.parentRunId"
# MLflow's own limit for the length of a tag or a param.
MAX_VALUE = 5000


@dataclass(frozen=True)
class Execution:
    """`folder` has the files of the stages; `patch` leads from the tag `dvc.baseline` to the code that ran.

    `ended` is when it ran (Unix seconds) and `environment` where, if that is not now and here; `facts` are those that
    its report tells.
    """

    folder: Path
    name: str
    tags: dict[str, str]
    patch: bytes = b""
    ended: float | None = None
    environment: dict[str, Any] | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def params(self) -> dict[str, str]:
        """Return the params as MLflow keeps them: flat, all strings, none too long."""
        return {key: str(value)[:MAX_VALUE] for key, value in flatten(read_yaml(self.folder / PARAMS_FILE)).items()}


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
    if parent := os.environ.get(PARENT_VARIABLE):
        tags[PARENT_TAG] = parent
    return Execution(
        folder=Path.cwd(),
        name=run_name(name, changed_params(commit), otherwise=f"repro {datetime.now(tz=UTC):%Y-%m-%d %H:%M:%S}"),
        tags=tags,
        patch=patch_since(commit) if commit else b"",
        facts=facts_here(),
    )


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

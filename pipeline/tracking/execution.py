"""An execution of the pipeline as MLflow gets it: whose files, under which name, and what it was made from.

While an experiment runs its own commit does not exist, so what is kept is the commit that it builds on and the patch
from there.
"""

import json
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from types import CodeType
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.params.reader import PARAMS_FILE, flatten, read_yaml
from pipeline.tracking.git import changed_files, file_at, git, git_state, patch_since
from pipeline.tracking.project import baseline, experiment_name
from pipeline.tracking.records import experiments

SHOWN_CHANGES = 12


def facts_here() -> dict[str, Any]:
    """Return the facts of the working tree: of the experiment that runs in it, else of what was changed since HEAD."""
    name = experiment_name()
    return _facts(baseline(), None) | ({"experiment": name} if name else {})


def facts_of(revision: str) -> dict[str, Any]:
    """Return the facts of a DVC experiment, or of a commit; empty if there is no such revision."""
    found = [one for one in experiments() if revision in {one.name, one.commit}]
    if found:
        return _facts(found[-1].baseline, found[-1].commit) | {"experiment": found[-1].name}
    return _facts(git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}").strip(), revision)


def _facts(commit: str, revision: str | None) -> dict[str, Any]:
    if not commit:
        return {}
    # Params have a table of their own in the report.
    files = [name for name in changed_files(commit, revision) if name != PARAMS_FILE.name]
    return {"commit": commit, "baseline": params_of(file_at(commit, PARAMS_FILE.name)), "changed_files": files}


def changes(commit: str, revision: str | None = None, *, folder: Path | None = None) -> list[str]:
    """Return what differs from `commit`, one line each: params with both values, then other files by name."""
    if not commit:
        return []
    before, after = _params(commit, revision, folder)
    names = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    files = [name for name in changed_files(commit, revision, folder=folder) if name != PARAMS_FILE.name]
    return [*(f"{name} {_shown(before, name)} → {_shown(after, name)}" for name in names), *files]


def changed_params(commit: str, revision: str | None = None, *, folder: Path | None = None) -> dict[str, Any]:
    """Return the params that have another value than in `commit`, with the new values."""
    before, after = _params(commit, revision, folder) if commit else ({}, {})
    # Without a params.yaml in the commit there is nothing to differ from.
    return {key: value for key, value in after.items() if before and before.get(key) != value}


def _params(commit: str, revision: str | None, folder: Path | None) -> tuple[dict[str, Any], dict[str, Any]]:
    before = params_of(file_at(commit, PARAMS_FILE.name, folder=folder))
    if revision:
        return before, params_of(file_at(revision, PARAMS_FILE.name, folder=folder))
    return before, flatten(read_yaml((folder or Path()) / PARAMS_FILE))


def params_of(text: str | None) -> dict[str, Any]:
    """Return the flat params of a params.yaml's text; empty if there is none or it cannot be read."""
    try:
        return flatten(YAML(typ="safe", pure=True).load(text or ""))
    except (YAMLError, AttributeError):
        return {}


def format_changes(lines: list[str]) -> str:
    """Return `changes` as one line for a tag: "nothing" if there are none."""
    more = f" and {len(lines) - SHOWN_CHANGES} more" if len(lines) > SHOWN_CHANGES else ""
    return ", ".join(lines[:SHOWN_CHANGES]) + more if lines else "nothing"


def _shown(params: dict[str, Any], name: str) -> str:
    return str(params[name]) if name in params else "absent"


MAX_NAME = 60
MAX_SHOWN_VALUE = 24
# DVC's random names are an adjective of five letters and a noun of four, as in "muggy-toms".
RANDOM_NAME = re.compile(r"([a-z]{5})-([a-z]{4})")


def run_name(experiment: str | None, changed: Mapping[str, Any], *, otherwise: str) -> str:
    """Return the name of a run: `experiment` if a person chose it, else the `changed` params, as "num_hidden=128".

    If no param changed, the random name of the experiment; outside of an experiment, `otherwise`.
    """
    if experiment and not is_random(experiment):
        return experiment
    return describe(changed) or experiment or otherwise


def describe(params: Mapping[str, Any]) -> str:
    """Return flat params as "num_hidden=128, epochs=2", with at most MAX_NAME characters; "" if there are none."""
    names = short_names(list(params))
    parts = [f"{names[key]}={format_value(value)}" for key, value in params.items()]
    for count in range(len(parts), 0, -1):
        more = f" and {len(parts) - count} more" if count < len(parts) else ""
        if len(text := ", ".join(parts[:count]) + more) <= MAX_NAME:
            return text
    return parts[0][: MAX_NAME - 1] + "…" if parts else ""


def short_names(keys: list[str]) -> dict[str, str]:
    """Return for each dotted key its last part, or the whole where that is no longer distinct."""
    lasts = [key.rpartition(".")[2] for key in keys]
    return {key: last if lasts.count(last) == 1 else key for key, last in zip(keys, lasts, strict=True)}


def format_value(value: Any) -> str:
    """Return a param's value for people; of a long one only the end, where paths differ."""
    if isinstance(value, float):
        text = f"{value:g}"
    else:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= MAX_SHOWN_VALUE else f"…{text[1 - MAX_SHOWN_VALUE :]}"


def is_random(experiment: str) -> bool:
    """Return whether DVC made up this name: both words are in its lists."""
    found = RANDOM_NAME.fullmatch(experiment)
    return found is not None and set(found.groups()) <= _random_words()


@cache
def _random_words() -> frozenset[str]:
    """Return the words of DVC's random names. They are constants of its function: there is no other way to them."""
    from dvc.repo.experiments.utils import gen_random_name  # 0.6 s

    code: CodeType = gen_random_name.__code__
    return frozenset(word for constant in code.co_consts if isinstance(constant, tuple) for word in constant)


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
        "charlm.changed": format_changes(changes(commit)),
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

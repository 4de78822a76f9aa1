"""What Git and DVC tell of a model beyond its files: the commit that it builds on, and what differs from it."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.params.reader import PARAMS_FILE, flatten, read_yaml
from pipeline.tracking.git import changed_files, file_at, git
from pipeline.tracking.project import baseline, experiment_name
from pipeline.tracking.snapshots import experiments

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


def told(lines: list[str]) -> str:
    """Return `changes` as one line for a tag: "nothing" if there are none."""
    more = f" and {len(lines) - SHOWN_CHANGES} more" if len(lines) > SHOWN_CHANGES else ""
    return ", ".join(lines[:SHOWN_CHANGES]) + more if lines else "nothing"


def _shown(params: dict[str, Any], name: str) -> str:
    return str(params[name]) if name in params else "absent"

"""Finds out from dvc.lock which stages' results belong together, and to the values in params.yaml.

A revision contains the metrics and plots of every stage, even of stages that did not run again after an earlier stage
had changed: an experiment that ended with `evaluate` still has the samples of its baseline. dvc.lock shows this.
"""

import hashlib
from pathlib import Path
from typing import Any

from pipeline.params.reader import PARAMS_FILE, flatten, read_yaml

LOCK_FILE = Path("dvc.lock")


def stages_in_step(folder: Path) -> list[str]:
    """Return the stages, in the lock's order, whose inputs are the outputs of the earlier stages and params.yaml.

    Empty if there is no lock. Code is ignored, since a revision's lock was written by that revision's code. A stage
    without outputs (summary) has no results and is left out.
    """
    if not (folder / LOCK_FILE).exists():
        return []
    stages = _stages_with_results(folder)
    params = flatten(read_yaml(folder / PARAMS_FILE))
    outputs = {out["path"]: (name, out.get("md5")) for name, stage in stages.items() for out in stage.get("outs", [])}
    known: dict[str, bool] = {}

    def in_step(name: str) -> bool:
        if name not in known:
            known[name] = False  # ends the recursion in a cycle, which DVC refuses
            stage = stages[name]
            inputs = [(dep["path"], dep.get("md5")) for dep in stage.get("deps", []) if dep["path"] in outputs]
            known[name] = all(
                outputs[path][1] == md5 and in_step(outputs[path][0]) for path, md5 in inputs
            ) and _params_hold(stage.get("params", {}).get(PARAMS_FILE.name, {}), params)
        return known[name]

    return [name for name in stages if in_step(name)]


def is_in_step(folder: Path) -> bool:
    """Return whether every stage in the lock is in step, so that all files under `folder` are of one execution."""
    return (folder / LOCK_FILE).exists() and set(stages_in_step(folder)) == set(_stages_with_results(folder))


def _stages_with_results(folder: Path) -> dict[str, Any]:
    stages = read_yaml(folder / LOCK_FILE).get("stages") or {}
    return {name: stage for name, stage in stages.items() if stage.get("outs")}


def is_locked(folder: Path, name: str) -> bool:
    """Return whether the file `name` under `folder` exists and has the hash that is in the lock."""
    stages = read_yaml(folder / LOCK_FILE)["stages"].values()
    locked = {out["path"]: out.get("md5") for stage in stages for out in stage.get("outs", [])}
    try:
        return hashlib.md5((folder / name).read_bytes(), usedforsecurity=False).hexdigest() == locked.get(name)
    except OSError:
        return False


def _params_hold(locked: dict[str, Any], params: dict[str, Any]) -> bool:
    for key, value in locked.items():
        flat = flatten({key: value})
        group = {name: one for name, one in params.items() if name == key or name.startswith(f"{key}.")}
        if flat != group:
            return False
    return True

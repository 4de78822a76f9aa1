"""The params of a model, what is special about them, and the commands that make it again."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.reporting.project import Project
from pipeline.reporting.words import NOTHING, param


@dataclass(frozen=True)
class Setting:
    """A param: its key within the group, its value in each project, and whether it is worth looking at.

    `baseline` is the value in the commit that the first project was made from, if it differs there.
    """

    key: str
    values: tuple[str, ...]
    marked: bool
    baseline: str = ""


def settings(projects: Sequence[Project], *, only_different: bool = False) -> dict[str, list[Setting]]:
    """Return the params by group, marked where projects differ, or one does from the commit it was made from."""
    keys = dict.fromkeys(key for project in projects for key in project.params)
    groups: dict[str, list[Setting]] = {}
    for key in keys:
        values = tuple(param(one.params[key]) if key in one.params else NOTHING for one in projects)
        differs = len(set(values)) > 1
        if only_different and not differs:
            continue
        changed = len(projects) == 1 and key in projects[0].changed
        baseline = param(projects[0].facts["baseline"].get(key)) if changed else ""
        group, _, name = key.partition(".")
        groups.setdefault(group, []).append(Setting(name or key, values, differs or changed, baseline))
    return groups


def commands(project: Project) -> list[str]:
    """Return the commands that make the project's model again, in the project's own folder."""
    commit = project.facts.get("commit")
    options = "".join(f" -S {shlex.quote(f'{key}={param(value)}')}" for key, value in project.changed.items())
    run = f"dvc exp run{options}" if options else "dvc repro"
    return [*([f"git checkout {commit}"] if commit else []), "make install", ". .venv/bin/activate", run]


def changed_files(project: Project) -> list[str]:
    """Return the files that differ from the commit: without them the commands make something else."""
    return [str(name) for name in project.facts.get("changed_files", ())]

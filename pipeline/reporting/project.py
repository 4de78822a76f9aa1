"""Reads what a report is about: projects, whose files may be missing or damaged, their params and their origin.

At the end is how the report formats numbers, durations, params and invisible characters.
"""

import csv
import json
import math
import platform
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError, without_secrets
from pipeline.core.files import read_json
from pipeline.evaluation.measurement import difference, record_in
from pipeline.params.reader import LOCK_FILE, PARAMS_FILE, flatten, read_yaml, stages_in_step

Row = dict[str, Any]

# The files of the stage `generate`; in an experiment that ended with `evaluate`, they are its baseline's.
SAMPLES = ("samples/", "metrics/generate")
# The report shows the versions of these packages.
PACKAGES = ("charlm", "torch", "numpy", "mlflow", "dvc")


@dataclass(frozen=True)
class Project:
    """A finished execution of the pipeline: its name on the page, and its folder, laid out like the project's root.

    `facts` has what is in none of the files, each key optional: `commit`, the Git commit that it builds on;
    `experiment`, its DVC experiment; `baseline`, the flattened params of the commit; `changed_files`, the other files
    that differ from the commit.
    """

    name: str
    folder: Path
    facts: Mapping[str, Any] = field(default_factory=dict)

    def json(self, name: str) -> Any:
        """Return the content of the JSON file `name`, None if it cannot be read."""
        if name.startswith(SAMPLES) and not self.has("generate"):
            return None
        try:
            return read_json(self.folder / name)
        except (OSError, ValueError):
            return None

    def has(self, stage: str) -> bool:
        """Return whether the files of `stage` belong to this execution: not if the stage did not run again in it.

        dvc.lock says so; without one they do.
        """
        return self._in_step is None or stage in self._in_step

    @cached_property
    def _in_step(self) -> list[str] | None:
        try:
            return stages_in_step(self.folder) if (self.folder / LOCK_FILE).exists() else None
        except UserError:
            return None

    def metrics(self, stage: str) -> Row:
        """Return the metrics of `stage`, empty if they cannot be read."""
        found = self.json(f"metrics/{stage}.json")
        return found if isinstance(found, dict) else {}

    def read_csv(self, name: str, numbers: Sequence[str], words: Sequence[str] = ()) -> list[Row]:
        """Return these columns of the CSV file `name`, without rows that lack one of them or have a wrong number."""
        try:
            with (self.folder / name).open(encoding="utf-8", newline="") as file:
                return [row for raw in csv.DictReader(file) if (row := _parsed(raw, numbers, words))]
        except (OSError, ValueError, csv.Error):
            return []

    @cached_property
    def params(self) -> Row:
        """params.yaml with dotted keys."""
        try:
            return flatten(read_yaml(self.folder / PARAMS_FILE))
        except UserError:
            return {}

    @cached_property
    def changed(self) -> Row:
        """The params whose values differ from those in the commit that it builds on."""
        baseline = self.facts.get("baseline")
        if not baseline:
            return {}
        return {key: value for key, value in self.params.items() if key not in baseline or baseline[key] != value}


def same_text(projects: Sequence[Project]) -> bool:
    """Return whether all projects have the same eval text, by its hash."""
    texts = {project.metrics("evaluate").get("eval_sha256") for project in projects}
    return len(texts) == 1 and None not in texts


def why_not_comparable(projects: Sequence[Project]) -> str:
    """Return why the perplexities cannot be compared, "" if they can, because they were measured alike."""
    differs = difference(*(record_in(project.metrics("evaluate")) for project in projects))
    return f"Not comparable: {differs}." if differs else ""


def _parsed(raw: Mapping[str, str | None], numbers: Sequence[str], words: Sequence[str]) -> Row | None:
    try:
        values = {name: float(raw[name] or "nan") for name in numbers}
        return {name: raw[name] or "" for name in words} | values if all(map(math.isfinite, values.values())) else None
    except (KeyError, ValueError):
        return None


@dataclass(frozen=True)
class Setting:
    """A param: its key within the group, its value in each project, and whether the page marks it.

    `baseline` is the value in the first project's commit, if it differs.
    """

    key: str
    values: tuple[str, ...]
    marked: bool
    baseline: str = ""


def settings(projects: Sequence[Project], *, only_different: bool = False) -> dict[str, list[Setting]]:
    """Return the params by group. Those that differ between projects, or from the only project's commit, are marked."""
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
    """Return the commands that rebuild the project's model, run in the project's folder."""
    commit = project.facts.get("commit")
    options = "".join(f" -S {shlex.quote(f'{key}={param(value)}')}" for key, value in project.changed.items())
    run = f"dvc exp run{options}" if options else "dvc repro"
    return [*([f"git checkout {commit}"] if commit else []), "make install", ". .venv/bin/activate", run]


def changed_files(project: Project) -> list[str]:
    """Return the files that differ from the commit: without these changes the commands build another model."""
    return [str(name) for name in project.facts.get("changed_files", ())]


def versions() -> list[tuple[str, str]]:
    """Return the names and versions of Python, of the packages that are installed, and of the platform."""
    found = [("python", platform.python_version())]
    for name in PACKAGES:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return [*found, ("platform", f"{platform.system()} {platform.machine()}")]


# Symbols for invisible characters: the same in the report, in `charlm score` and in the playground (words.js).
# U+2423 and U+21B5 are in nearly every font; U+2420 is missing from many.
INVISIBLE = {" ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍", "\u00a0": "⍽"}
# The tables of `evaluate` have names for these characters.
NAMES = {"space": " ", "newline": "\n", "tab": "\t"}
NOTHING, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
ABSOLUTE = re.compile(r"^(?:file://)?(?:/|~|[A-Za-z]:[\\/])(?=.)")


def decimal(value: Any, places: int = 3) -> str:
    """Return a number with `places` decimals; NOTHING if `value` is not a finite number."""
    return f"{value:,.{places}f}" if is_number(value) else NOTHING


def whole(value: Any) -> str:
    """Return a number rounded to an integer; NOTHING if `value` is not a finite number."""
    return decimal(value, 0)


def percent(share: Any, places: int = 1) -> str:
    """Return a fraction (0 to 1) as a percentage; NOTHING if `share` is not a finite number."""
    return f"{100 * share:.{places}f} %" if is_number(share) else NOTHING


def signed(value: float, places: int = 2) -> str:
    """Return a difference with its sign, or without one if it rounds to zero."""
    shown = f"{abs(value):,.{places}f}"
    return shown if float(shown.replace(",", "")) == 0 else f"{'+' if value > 0 else MINUS}{shown}"


def seconds(value: Any) -> str:
    """Return a duration, given in seconds, in a readable unit; NOTHING if `value` is not a finite number."""
    if not is_number(value):
        return NOTHING
    if value < 120:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def is_number(value: Any) -> bool:
    """Return whether `value` is a finite number (a bool is not)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def visible(name: str) -> str:
    """Return a character, given as itself or by its name in the tables of `evaluate`, as a visible symbol."""
    char = NAMES.get(name, name)
    if char in INVISIBLE:
        return INVISIBLE[char]
    return char if len(char) != 1 or char.isprintable() else f"U+{ord(char):04X}"


def param(value: Any) -> str:
    """Return a param's value as `dvc exp run -S` takes it; an absolute path is cut to its last part, to hide names."""
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    if ABSOLUTE.match(value):
        last = re.split(r"[/\\]", value.rstrip("/\\"))[-1]
        return f"…/{last}"
    return without_secrets(value)

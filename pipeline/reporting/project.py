"""What a report reads: folders laid out like the project's root, of which any file may be missing or damaged."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError
from pipeline.core.files import read_json
from pipeline.params.dvc_lock import LOCK_FILE, stages_in_step
from pipeline.params.reader import PARAMS_FILE, flatten, read_yaml

Row = dict[str, Any]

# What the stage `generate` leaves; an experiment that ended with `evaluate` has its baseline's.
SAMPLES = ("samples/", "metrics/generate")


@dataclass(frozen=True)
class Project:
    """A finished execution of the pipeline: its name on the page and the folder of its files.

    `facts` is what the files do not tell, each key optional: `commit`, the Git commit that it was made from;
    `experiment`, its DVC experiment; `baseline`, the flattened params of that commit; `changed_files`, what else
    differs from it.
    """

    name: str
    folder: Path
    facts: Mapping[str, Any] = field(default_factory=dict)

    def json(self, name: str) -> Any:
        """Return what the JSON file `name` holds, None if it cannot be had."""
        if name.startswith(SAMPLES) and not self.has("generate"):
            return None
        try:
            return read_json(self.folder / name)
        except (OSError, ValueError):
            return None

    def has(self, stage: str) -> bool:
        """Return whether the files of `stage` belong to the others: not if it did not run again after them.

        Without a dvc.lock that says otherwise they do.
        """
        return self._in_step is None or stage in self._in_step

    @cached_property
    def _in_step(self) -> list[str] | None:
        try:
            return stages_in_step(self.folder) if (self.folder / LOCK_FILE).exists() else None
        except UserError:
            return None

    def metrics(self, stage: str) -> Row:
        """Return the metrics of `stage`, none if they cannot be had."""
        found = self.json(f"metrics/{stage}.json")
        return found if isinstance(found, dict) else {}

    def read_csv(self, name: str, numbers: Sequence[str], words: Sequence[str] = ()) -> list[Row]:
        """Return the rows of the CSV file `name` with these columns; a row that lacks one is left out, or a number."""
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
        """The params whose values are not those of the commit that it was made from."""
        baseline = self.facts.get("baseline")
        if not baseline:
            return {}
        return {key: value for key, value in self.params.items() if key not in baseline or baseline[key] != value}


def same_text(projects: Sequence[Project]) -> bool:
    """Return whether all have the same eval text, by its hash."""
    texts = {project.metrics("evaluate").get("eval_sha256") for project in projects}
    return len(texts) == 1 and None not in texts


def why_not_comparable(projects: Sequence[Project]) -> str:
    """Return why the perplexities do not mean the same, "" if they do: of one text, over windows of one length."""
    windows = {project.params.get("evaluate.window") for project in projects}
    if not same_text(projects):
        return "Measured on different eval texts: not comparable."
    return "Measured over windows of different lengths: not comparable." if len(windows) > 1 else ""


def _parsed(raw: Mapping[str, str | None], numbers: Sequence[str], words: Sequence[str]) -> Row | None:
    try:
        values = {name: float(raw[name] or "nan") for name in numbers}
        return {name: raw[name] or "" for name in words} | values if all(map(math.isfinite, values.values())) else None
    except (KeyError, ValueError):
        return None

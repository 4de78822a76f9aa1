"""Finds which params and files differ between models or from a commit, and makes short texts and run names of them."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Any

from pipeline.core.errors import without_secrets
from pipeline.params.reader import PARAMS_FILE, flatten, parse_yaml, read_yaml
from pipeline.tracking.project import baseline, changed_files, experiment_name, experiments, file_at, git

# Groups in the order of what usually explains a difference in perplexity.
IMPORTANCE = ("data", "model", "train", "split", "clean", "evaluate", "generate", "validate", "register")
# These keys change at most the last digits of a figure, or what dropout draws, so they come last, whatever their group.
UNIMPORTANT = ("train.checkpoint_seconds", "train.threads", "train.workers", "train.parts", "train.device")
ABSENT = "absent"
MAX_VALUE_LENGTH, MAX_NAME_LENGTH, MAX_CHANGES = 24, 60, 12
# DVC's random names are an adjective of five letters and a noun of four, as in "muggy-toms".
RANDOM_NAME = re.compile(r"([a-z]{5})-([a-z]{4})")


@dataclass(frozen=True)
class Changes:
    """What differs from a commit: (key, value in the commit, value now) of each param, and the names of other files."""

    params: list[tuple[str, str, str]]
    files: list[str]

    def __str__(self) -> str:
        """Return the changes in one line: "nothing" if there are none."""
        lines = [*(f"{key} {before} → {now}" for key, before, now in self.params), *self.files]
        more = f" and {len(lines) - MAX_CHANGES} more" if len(lines) > MAX_CHANGES else ""
        return ", ".join(lines[:MAX_CHANGES]) + more if lines else "nothing"


def changes(commit: str, revision: str | None = None, *, folder: Path | None = None) -> Changes:
    """Return how `revision` (by default the working tree) differs from `commit`; the stages' results do not count."""
    if not commit:
        return Changes([], [])
    before, now = _params(commit, revision, folder)
    keys = differing([before, now]) if before else []
    return Changes(
        params=[(key, format_param(before, key), format_param(now, key)) for key in keys],
        files=[name for name in changed_files(commit, revision, folder=folder) if name != PARAMS_FILE.name],
    )


def facts_here() -> dict[str, Any]:
    """Return what the report shows about the working tree: its commit, what differs from it, and its experiment."""
    name = experiment_name()
    return _facts(baseline(), None) | ({"experiment": name} if name else {})


def facts_of(revision: str) -> dict[str, Any]:
    """Return what the report shows about a DVC experiment or a commit; empty if there is no such revision."""
    found = [one for one in experiments() if revision in {one.name, one.commit}]
    if found:
        return _facts(found[-1].baseline, found[-1].commit) | {"experiment": found[-1].name}
    return _facts(git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}").strip(), revision)


def _facts(commit: str, revision: str | None) -> dict[str, Any]:
    if not commit:
        return {}
    # The report has a table of params, so params.yaml is not listed.
    files = [name for name in changed_files(commit, revision) if name != PARAMS_FILE.name]
    return {"commit": commit, "baseline": params_of(file_at(commit, PARAMS_FILE.name)), "changed_files": files}


def changed_params(commit: str, revision: str | None = None) -> dict[str, Any]:
    """Return the params whose values differ from those in `commit`, with the new values."""
    before, now = _params(commit, revision, None) if commit else ({}, {})
    # Without a params.yaml in the commit there is nothing to compare with.
    return {key: value for key, value in now.items() if before and before.get(key) != value}


def params_of(text: str | None) -> dict[str, Any]:
    """Return the flattened params in the text of a params.yaml; empty if there is none or it cannot be read."""
    try:
        return flatten(parse_yaml(text or ""))
    except (ValueError, AttributeError):
        return {}


def differing(params: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the dotted keys that do not have the same value in all of `params`, the most important first."""
    keys = dict.fromkeys(key for one in params for key in one)
    # repr, since 1, 1.0 and True are equal in Python.
    values = {key: {repr(one[key]) if key in one else ABSENT for one in params} for key in keys}
    return sorted((key for key in keys if len(values[key]) > 1), key=_rank)


def short_names(keys: Sequence[str], *, all_keys: Sequence[str] | None = None) -> dict[str, str]:
    """Return each key's shortest ending that no other key in `all_keys` (by default `keys`) has: "num_hidden"."""
    every = list(dict.fromkeys(all_keys or keys))
    return {key: _shortest(key, every) for key in keys}


def format_param(params: Mapping[str, Any], key: str) -> str:
    """Return the value of a param as a short text, "absent" if there is none."""
    return format_value(params[key]) if key in params else ABSENT


def format_value(value: Any) -> str:
    """Return a param's value as one line of at most MAX_VALUE_LENGTH characters; of a longer one the end."""
    if isinstance(value, float):
        text = f"{value:g}"
    else:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = without_secrets(" ".join(text.split()))
    # Paths differ at their end.
    return text if len(text) <= MAX_VALUE_LENGTH else f"…{text[1 - MAX_VALUE_LENGTH :]}"


def run_name(experiment: str | None, changed: Mapping[str, Any], *, default: str) -> str:
    """Return the name of a run: `experiment` if a person chose it, else the changed params, as in "num_hidden=128".

    If no param changed: the experiment's random name, or `default` outside of an experiment.
    """
    if experiment and not is_random(experiment):
        return experiment
    return describe(changed) or experiment or default


def describe(params: Mapping[str, Any]) -> str:
    """Return flat params as "num_hidden=128, epochs=2", of at most MAX_NAME_LENGTH characters; "" if there are none."""
    names = short_names(list(params))
    parts = [f"{names[key]}={format_value(value)}" for key, value in params.items()]
    for count in range(len(parts), 0, -1):
        more = f" and {len(parts) - count} more" if count < len(parts) else ""
        if len(text := ", ".join(parts[:count]) + more) <= MAX_NAME_LENGTH:
            return text
    return parts[0][: MAX_NAME_LENGTH - 1] + "…" if parts else ""


def is_random(experiment: str) -> bool:
    """Return whether DVC invented this name: both words are in its lists."""
    found = RANDOM_NAME.fullmatch(experiment)
    return found is not None and set(found.groups()) <= _random_words()


@cache
def _random_words() -> frozenset[str]:
    """Return the words of DVC's random names, which are constants inside its function and public nowhere."""
    from dvc.repo.experiments.utils import gen_random_name  # 0.6 s

    code: CodeType = gen_random_name.__code__
    return frozenset(word for constant in code.co_consts if isinstance(constant, tuple) for word in constant)


def _params(commit: str, revision: str | None, folder: Path | None) -> tuple[dict[str, Any], dict[str, Any]]:
    before = params_of(file_at(commit, PARAMS_FILE.name, folder=folder))
    if revision:
        return before, params_of(file_at(revision, PARAMS_FILE.name, folder=folder))
    return before, flatten(read_yaml((folder or Path()) / PARAMS_FILE))


def _rank(key: str) -> tuple[bool, int]:
    group = key.partition(".")[0]
    return key in UNIMPORTANT, IMPORTANCE.index(group) if group in IMPORTANCE else len(IMPORTANCE)


def _shortest(key: str, every: Sequence[str]) -> str:
    parts = key.split(".")
    for count in range(1, len(parts)):
        name = ".".join(parts[-count:])
        if not any(other != key and (other == name or other.endswith(f".{name}")) for other in every):
            return name
    return key

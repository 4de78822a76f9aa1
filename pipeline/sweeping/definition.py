"""Reads and validates the definition of a sweep: its YAML file, -S options and params.yaml."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError
from pipeline.core.threads import available_cores
from pipeline.params.groups import GROUPS
from pipeline.params.reader import PARAMS_FILE, flatten, parse_group, parse_value, read_groups, read_yaml
from pipeline.sweeping.space import Choices, Dimension, Range, corners, option_text

FOLDER = Path(__file__).parents[2] / "presets/sweeps"
KEYS = ("trials", "set", "search")
MAX_TRIALS = 10_000
# The params that a sweep may search. All others change the eval text or its protocol, so perplexities would not be
# comparable.
COMPARABLE = re.compile(r"(model|train)\..*|split\.buckets")
# The params of stages after evaluate: they do not change a trial's result.
AFTER = ("generate.", "register.")
THREADS = "train.threads"


@dataclass(frozen=True)
class Definition:
    """A sweep: `fixed` params of all trials and the `search` space, which override `base`, those of params.yaml.

    `fixed` has each param's value and its text in an -S option.
    """

    name: str
    title: str
    trials: int
    fixed: dict[str, tuple[Any, str]]
    search: dict[str, Dimension]
    base: dict[str, Any]

    def params(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return all params of the trial with the searched `values`, by dotted key."""
        return self.base | {key: value for key, (value, _) in self.fixed.items()} | dict(values)

    def options(self, values: Mapping[str, Any], *, jobs: int) -> list[str]:
        """Return a trial's "key=value" options; parallel trials get equal shares of the cores."""
        texts = {key: text for key, (_, text) in self.fixed.items()}
        if jobs > 1 and self.params(values)[THREADS] == 0:
            texts[THREADS] = str(max(1, available_cores() // jobs))
        texts |= {key: option_text(value) for key, value in values.items()}
        return [f"{key}={text}" for key, text in texts.items()]

    def start(self) -> dict[str, Any] | None:
        """Return the values of params.yaml, with which the search starts, or None if they are outside of the space."""
        params = self.params({})
        values = {key: params[key] for key in self.search}
        return values if all(self.search[key].holds(value) for key, value in values.items()) else None

    def record(self) -> dict[str, Any]:
        """Return as JSON data what all trials of one sweep must have in common."""
        keys = [key for key in self.base if not key.startswith(AFTER) and key not in self.search]
        params = self.params({})
        return {
            "search": {key: dimension.model_dump(mode="json") for key, dimension in self.search.items()},
            "params": {key: params[key] for key in keys},
        }


def list_sweeps() -> list[Definition]:
    """Return the sweeps that come with the project, sorted by name."""
    return [read_sweep(path, {}) for path in sorted(FOLDER.glob("*.yaml"))]


def find_sweep(name: str) -> Path:
    """Return the file of a sweep by its name, or by its path; UserError if there is none."""
    if name.endswith((".yaml", ".yml")) or "/" in name:
        return Path(name)
    names = [path.stem for path in sorted(FOLDER.glob("*.yaml"))]
    if name not in names:
        raise UserError(f"sweep: found {name!r}, allowed are {', '.join(names)}, or the path of a .yaml file")
    return FOLDER / f"{name}.yaml"


def load_sweep(path: Path, options: Sequence[str], trials: int | None) -> Definition:
    """Return the sweep in the file `path`, with -S `options`, over params.yaml; UserError if any value is invalid.

    `trials` overrides the file's number of trials.
    """
    read_groups(GROUPS)
    base = flatten(read_yaml(PARAMS_FILE))
    found = read_sweep(path, base)
    given = dict(_option(option, base) for option in options)
    for key in given.keys() & found.search.keys():
        raise UserError(f"-S {key}: found a param that {path.name} searches, allowed are others")
    check_params(base | {key: value for key, (value, _) in given.items()}, "-S")
    sweep = replace(found, fixed=found.fixed | given, base=base, trials=trials or found.trials)
    # If the extreme values are valid params, all values between them are.
    for values in corners(sweep.search):
        check_params(sweep.params(values), path.name)
    return sweep


def read_sweep(path: Path, base: Mapping[str, Any]) -> Definition:
    """Return the sweep in a file; if `base` (params.yaml) is not empty, the file's keys must be in it."""
    content = read_yaml(path)
    for key in content:
        if key not in KEYS:
            raise UserError(f"{path.name}: {key}: unknown key{_suggest(str(key), KEYS)}")
    trials = content.get("trials", 20)
    if isinstance(trials, bool) or not isinstance(trials, int) or not 1 <= trials <= MAX_TRIALS:
        raise UserError(f"{path.name}: trials: found {trials!r}, allowed is a whole number from 1 to {MAX_TRIALS}")
    fixed = flatten(_mapping(path, content, "set"))
    search = {key: _dimension(path, key, value) for key, value in _dimensions(_mapping(path, content, "search"))}
    if not search:
        raise UserError(f"{path.name}: search: missing; allowed is a mapping of params to {{low, high}} or {{choices}}")
    _check_keys(path, fixed, search, base)
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return Definition(
        name=path.stem,
        title=first.removeprefix("#").strip() if first.startswith("#") else "",
        trials=trials,
        fixed={key: (value, option_text(value)) for key, value in fixed.items()},
        search=search,
        base=dict(base),
    )


def check_params(params: Mapping[str, Any], file: str) -> None:
    """Validate all params (dotted keys); the UserError names `file` as their origin."""
    nested: dict[str, Any] = {}
    for key, value in params.items():
        *groups, last = key.split(".")
        at = nested
        for group in groups:
            at = at.setdefault(group, {})
        at[last] = value
    for name, kind in GROUPS.items():
        parse_group(name, nested.get(name), kind, file=file)


def _check_keys(path: Path, fixed: Iterable[str], search: Iterable[str], base: Mapping[str, Any]) -> None:
    for kind, keys in (("set", fixed), ("search", search)):
        for key in keys if base else ():
            if key not in base:
                raise UserError(f"{path.name}: {kind}.{key}: no such param{_suggest(key, base)}")
    for key in search:
        if key in fixed:
            raise UserError(f"{path.name}: {key}: found under set and under search, allowed is one of them")
        if not COMPARABLE.fullmatch(key):
            raise UserError(
                f"{path.name}: search.{key}: perplexities would not be comparable; "
                "allowed are model.*, train.* and split.buckets"
            )


def _mapping(path: Path, content: dict[str, Any], key: str) -> dict[str, Any]:
    value = content.get(key) or {}
    if not isinstance(value, dict):
        raise UserError(f"{path.name}: {key}: found {type(value).__name__}, allowed is a mapping of params")
    return value


def _dimensions(value: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Yield dotted keys and their values: nested mappings are groups until one has a dimension's keys."""
    for key, inner in value.items():
        name = f"{prefix}{key}"
        if isinstance(inner, dict) and inner and all(isinstance(one, dict) for one in inner.values()):
            yield from _dimensions(inner, f"{name}.")
        else:
            yield name, inner


def _dimension(path: Path, key: str, value: Any) -> Dimension:
    if not isinstance(value, dict):
        raise UserError(f"{path.name}: search.{key}: found {value!r}, allowed is {{low, high}} or {{choices}}")
    if "choices" in value:
        return parse_group(f"search.{key}", value, Choices, file=path.name)
    return parse_group(f"search.{key}", value, Range, file=path.name)


def _option(option: str, base: Mapping[str, Any]) -> tuple[str, tuple[Any, str]]:
    key, equals, text = option.partition("=")
    if not equals:
        raise UserError(f"-S: found {option!r}, allowed is key=value")
    if key not in base:
        raise UserError(f"-S {key}: no such param in {PARAMS_FILE}{_suggest(key, base)}")
    return key, (parse_value(text), text)


def _suggest(found: str, allowed: Iterable[str]) -> str:
    allowed = list(allowed)
    last = found.rpartition(".")[2]
    same = [key for key in allowed if key.rpartition(".")[2] == last]
    close = same[:1] if len(same) == 1 else difflib.get_close_matches(found, allowed, n=1)
    close = close or _by_last_part(last, allowed)
    few = f"; allowed are {', '.join(allowed)}" if len(allowed) <= len(KEYS) else ""
    return f"; did you mean {close[0]}?" if close else few


def _by_last_part(last: str, allowed: Sequence[str]) -> list[str]:
    """Return the key whose last part is most like `last`, as when the group was left out."""
    keys = {key.rpartition(".")[2]: key for key in allowed if "." in key}
    return [keys[name] for name in difflib.get_close_matches(last, keys, n=1)]

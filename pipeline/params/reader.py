"""Reads params.yaml and dvc.lock; validation errors become one-line messages. Callers pass the type of each group.

The files are YAML 1.2, because YAML 1.1 reads `1e-5` as a string. Duplicate keys are refused, and so is what no params
file needs but can hang or crash a reader: deep nesting, aliases that multiply, a list in itself, keys that are lists.

A revision contains the metrics and plots of every stage, even of stages that did not run again after an earlier stage
had changed: an experiment that ended with `evaluate` still has the samples of its baseline. dvc.lock shows this.
"""

import copy
import difflib
import hashlib
import json
import re
from collections.abc import Mapping
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scanner import Scanner

from pipeline.core.errors import UserError, one_line
from pipeline.params import Group

PARAMS_FILE = Path("params.yaml")

MEMBERS = ("int", "float", "str")
# The beginning of pydantic's messages: "Input should be …", "Tuple should have …".
SHOULD = re.compile(r"^\w+ should (be|have) ")

G = TypeVar("G", bound=Group)

# Limits far beyond any params.yaml or dvc.lock. Values are counted with those that aliases repeat.
MOST_LEVELS, MOST_VALUES, MOST_BITS = 50, 100_000, 1000
# The most characters of a wrong value that a message shows.
SHOWN = 200


class _Scanner(Scanner):
    """Refuses deep nesting while the text is read: ruamel's time is quadratic in the depth, and its stack ends."""

    def fetch_flow_collection_start(self, TokenClass: Any, to_push: str) -> None:  # noqa: N803
        if self.flow_level >= MOST_LEVELS:
            _refuse_depth()
        super().fetch_flow_collection_start(TokenClass, to_push)

    def add_indent(self, column: int) -> bool:
        if len(self.indents) > MOST_LEVELS:
            _refuse_depth()
        return bool(super().add_indent(column))


def _refuse_depth() -> NoReturn:
    raise ValueError(f"nested too deeply, or in itself; allowed are {MOST_LEVELS} levels")


def parse_yaml(text: str) -> Any:
    """Return the value of a YAML 1.2 text: mappings, lists, numbers, dates, texts, true, false and null.

    ValueError, of one line, for anything else.
    """
    return copy.deepcopy(_parsed(text))


# A stage reads the same params.yaml and dvc.lock up to twenty times, and ruamel takes 0.05 s each time.
@lru_cache(maxsize=8)
def _parsed(text: str) -> Any:
    yaml = YAML(typ="safe", pure=True)
    yaml.Scanner = _Scanner
    try:
        value = yaml.load(text)
    # A value that its tag or form promises to be a date or a number, but is not, fails with any of these.
    except (YAMLError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # Python's advice about its limit for digits is no advice to the reader.
        raise ValueError(one_line(error, most=SHOWN).partition("; use sys.")[0]) from None
    _refuse_odd(value)
    return value


def _refuse_odd(value: Any) -> None:
    """Raise ValueError if `value` is not plain data; not recursive, since an alias may contain itself."""
    todo, count = [(value, 0)], 0
    while todo:
        one, level = todo.pop()
        count += 1
        if count > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES:,} values")
        if isinstance(one, dict | list):
            if level >= MOST_LEVELS:
                _refuse_depth()
            todo += [(inner, level + 1) for inner in one]
            todo += [(inner, level + 1) for inner in one.values()] if isinstance(one, dict) else []
        elif isinstance(one, int) and one.bit_length() > MOST_BITS:
            raise ValueError(f"found a whole number of {one.bit_length()} bits, allowed are {MOST_BITS}")
        elif isinstance(one, str):
            one.encode()  # UnicodeEncodeError, a ValueError, for half a surrogate pair
        elif not isinstance(one, int | float | date | None):
            raise ValueError(f"found a {type(one).__name__}, allowed are mappings, lists, numbers, texts and null")


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML 1.2 file; UserError if the file cannot be read or is not a mapping."""
    try:
        value = parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path.name}: no such file") from None
    except (ValueError, OSError) as error:
        raise UserError(f"{path.name}: not readable as YAML: {one_line(error)}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path.name}: found {type(value).__name__}, allowed is a mapping of groups")
    return value


def parse_value(text: str) -> Any:
    """Return the value of an option like `-S key=TEXT`: `text` parsed as YAML 1.2, or as it is if that fails."""
    try:
        return parse_yaml(text)
    except ValueError:
        return text


def read_group(name: str, kind: type[G], path: Path = PARAMS_FILE) -> G:
    """Return group `name` of params.yaml as a `kind`; UserError names the key, the value and what is allowed."""
    return parse_group(name, read_yaml(path).get(name), kind, file=path.name)


def parse_group(name: str, value: Any, kind: type[G], file: str = PARAMS_FILE.name) -> G:
    """Return `value` (plain YAML data) as a `kind`; UserError as from `read_group`."""
    if value is None:
        raise UserError(f"{file}: group {name!r} is missing")
    try:
        # Validate as JSON: strict pydantic then accepts a list for a tuple, but still refuses "8" for a number.
        return kind.model_validate_json(json.dumps(value, default=str))
    except ValidationError as error:
        raise UserError(f"{file}: {_message(name, kind, error.errors())}") from None


def read_groups(kinds: dict[str, type[Group]], path: Path = PARAMS_FILE) -> dict[str, Group]:
    """Return all groups of params.yaml. `kinds` maps each group to its type; UserError if one is missing or unknown."""
    content = read_yaml(path)
    for name in content:
        if name not in kinds:
            raise UserError(f"{path.name}: {name}: unknown group{_suggest(str(name), list(kinds))}")
    return {name: parse_group(name, content.get(name), kind, file=path.name) for name, kind in kinds.items()}


def flatten(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one level with dotted keys: {"model": {"num_hidden": 8}} is {"model.num_hidden": 8}."""
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        name = f"{prefix}{key}"
        if isinstance(inner, dict):
            flat |= flatten(inner, f"{name}.")
        else:
            flat[name] = inner
    return flat


def nested(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return params by dotted key as mappings within mappings: the opposite of `flatten`."""
    result: dict[str, Any] = {}
    for key, value in params.items():
        *groups, last = key.split(".")
        at = result
        for group in groups:
            at = at.setdefault(group, {})
        at[last] = value
    return result


def _message(group: str, kind: type[Group], errors: list[ErrorDetails]) -> str:
    first = errors[0]
    loc = _named(first["loc"])
    key = ".".join([group, *loc])
    others = len({tuple(_named(error["loc"])) for error in errors}) - 1
    more = f" (and {others} more)" if others else ""
    if first["type"] == "extra_forbidden":
        allowed = _keys_at(kind, loc[:-1])
        return f"{key}: unknown key{_suggest(loc[-1], allowed)}{more}"
    if first["type"] == "missing":
        return f"{key}: missing{more}"
    if first["type"] == "value_error":
        return f"{key}: {first['msg'].removeprefix('Value error, ')}{more}"
    # Each member of a union has its own error message; the reader wants all of them.
    messages = dict.fromkeys(SHOULD.sub("", error["msg"]) for error in errors if _named(error["loc"]) == loc)
    found = json.dumps(first["input"], default=str)
    found = found if len(found) <= SHOWN else f"{found[:SHOWN]}…"
    return f"{key}: found {found}, allowed is {' or '.join(messages)}{more}"


def _named(loc: tuple[int | str, ...]) -> list[str]:
    """Return the keys in `loc`, without pydantic's names for members of a union (`tuple[…]`, `literal[…]`, `int`)."""
    return [str(part) for part in loc if not (isinstance(part, str) and (part in MEMBERS or part.endswith("]")))]


def _keys_at(kind: type[BaseModel], loc: list[str]) -> list[str]:
    for part in loc:
        annotation = kind.model_fields[part].annotation
        kinds = [t for t in (annotation, *get_args(annotation)) if isinstance(t, type) and issubclass(t, BaseModel)]
        kind = kinds[0]
    return list(kind.model_fields)


def _suggest(found: str, allowed: list[str]) -> str:
    close = difflib.get_close_matches(found, allowed, n=1)
    return f"; did you mean {close[0]}?" if close else f"; allowed are {', '.join(allowed)}"


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

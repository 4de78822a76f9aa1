"""All groups of params.yaml by name; applies options like `-S model.num_hidden=128` to them, and writes values."""

import difflib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import RoundTripRepresenter

from pipeline.core.errors import UserError
from pipeline.core.files import whole_file
from pipeline.params.base import Group
from pipeline.params.generation import GenerateParams, RegisterParams
from pipeline.params.reader import nested, parse_group, parse_value
from pipeline.params.text import CleanParams, DataParams, SplitParams, ValidateParams
from pipeline.params.training import EvaluateParams, ModelParams, TrainParams

GROUPS: dict[str, type[Group]] = {
    "data": DataParams,
    "clean": CleanParams,
    "split": SplitParams,
    "validate": ValidateParams,
    "model": ModelParams,
    "train": TrainParams,
    "evaluate": EvaluateParams,
    "generate": GenerateParams,
    "register": RegisterParams,
}


Values = dict[str, dict[str, Any]]


def known_keys() -> list[str]:
    """Return every key of params.yaml with its group, such as `train.optimizer.lr`; nested groups are keys, too."""
    return [key for name, kind in GROUPS.items() for key in _keys(kind, f"{name}.")]


def override(values: Mapping[str, Any], options: Sequence[str], *, groups: Sequence[str]) -> Values:
    """Return a copy of `values` (plain YAML data by group) in which `options` ("key=value") are set.

    UserError for an option without a value, an unknown key (with a suggestion), and a key of a group that is not in
    `groups`. The values are not validated; `parse_group` does that.
    """
    changed: Values = deepcopy(dict(values))
    known = known_keys()
    for option in options:
        key, equals, value = option.partition("=")
        if not equals:
            raise UserError(f"-S {option}: found no value, allowed is key=value, as in -S data.encoding=latin-1")
        if key not in known:
            raise UserError(f"-S {option}: unknown key {key}{suggestion(key, known, groups)}")
        if key.partition(".")[0] not in groups:
            raise UserError(f"-S {option}: {key} changes nothing here; allowed are keys of {', '.join(groups)}")
        *parents, last = key.split(".")
        inner: dict[str, Any] = changed
        for parent in parents:
            if not isinstance(inner.get(parent), dict):
                inner[parent] = {}
            inner = inner[parent]
        inner[last] = parse_value(value)
    return changed


def check_params(params: Mapping[str, Any], file: str) -> None:
    """Validate all params, by dotted key; the UserError names `file` as their origin."""
    groups = nested(params)
    for name, kind in GROUPS.items():
        parse_group(name, groups.get(name), kind, file=file)


def _keys(kind: type[BaseModel], prefix: str) -> list[str]:
    keys = []
    for name, field in kind.model_fields.items():
        keys.append(f"{prefix}{name}")
        for inner in (field.annotation, *get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                keys += _keys(inner, f"{prefix}{name}.")
    return keys


def suggestion(key: str, known: Sequence[str], groups: Sequence[str]) -> str:
    """Return the known key with the same name in another group, or else the key with the most similar spelling."""
    name = key.rpartition(".")[2]
    names = {one.rpartition(".")[2]: one for one in reversed(known)}
    close = [names[name]] if name in names else []
    close = close or difflib.get_close_matches(key, known, n=1, cutoff=0.75)
    close = close or [names[one] for one in difflib.get_close_matches(name, names, n=1, cutoff=0.75)]
    return f"; did you mean {close[0]}?" if close else f"; allowed are keys of {', '.join(groups)}"


WIDTH = 120


class _Representer(RoundTripRepresenter):
    """Writes None as `null`, as in params.yaml; ruamel would write nothing."""

    def represent_null(self, _: object) -> ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:null", "null")


_Representer.add_representer(type(None), _Representer.represent_null)


def write_values(path: Path, values: Mapping[str, Any]) -> None:
    """Set `values` (by dotted key; each must exist) in the params file `path`, which is replaced atomically."""
    yaml = YAML()
    yaml.Representer = _Representer
    yaml.width = WIDTH
    yaml.preserve_quotes = True
    content = yaml.load(path.read_text(encoding="utf-8"))
    for key, value in values.items():
        *parents, last = key.split(".")
        group = content
        for parent in parents:
            group = group[parent]
        group[last] = _flow(value) if isinstance(value, list) else value
    with whole_file(path) as temporary:
        yaml.dump(content, temporary)


def _flow(values: list[Any]) -> CommentedSeq:
    """Return a list that ruamel writes on one line, as in params.yaml."""
    sequence = CommentedSeq(values)
    sequence.fa.set_flow_style()
    return sequence

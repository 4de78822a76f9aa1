"""All groups of params.yaml by name; applies options like `-S model.num_hidden=128` to them, and writes values.

`python -m pipeline.params.groups` writes the descriptions of the params into the comments of params.yaml and into
docs/params-reference.md, after each change of one: the fields in pipeline/params/ are the only place where they are.
"""

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import RoundTripRepresenter

from pipeline.core.errors import UserError
from pipeline.core.files import whole_file
from pipeline.params import Group
from pipeline.params.generation import GenerateParams, RegisterParams
from pipeline.params.reader import PARAMS_FILE, nested, parse_group, parse_value
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
    return [key for key, _, _ in fields()]


def fields() -> Iterator[tuple[str, FieldInfo, type[BaseModel]]]:
    """Yield the dotted key, the field and its group's class of every param; groups within groups come before theirs."""
    for name, kind in GROUPS.items():
        yield from _fields(kind, f"{name}.")


def _fields(kind: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo, type[BaseModel]]]:
    for name, field in kind.model_fields.items():
        yield f"{prefix}{name}", field, kind
        for inner in (field.annotation, *get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from _fields(inner, f"{prefix}{name}.")


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


REFERENCE_FILE = Path("docs/params-reference.md")
INTRODUCTION = """# Every key of params.yaml

You look for the key to change, its default, or the values it allows. How to try another value: [params.md](params.md).

This page is generated from the classes in `pipeline/params/` by `python -m pipeline.params.groups`.
"""
# A key with its value, and the comment after it.
LINE = re.compile(r"(?P<indent> *)(?P<key>\w+):(?P<value>.*?)(?: # .*)?")
TYPES = {"integer": "integer", "number": "number", "string": "text", "boolean": "true, false", "null": "null"}
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def with_comments(text: str) -> str:
    """Return `text` (a params.yaml) with the description of each key as its comment; other lines stay as they are."""
    described = {key: field.description for key, field, _ in fields()}
    lines, parents = [], [""] * 10
    for line in text.split("\n"):
        if found := LINE.fullmatch(line):
            depth = len(found["indent"]) // 2
            parents[depth] = found["key"]
            description = described.get(".".join(parents[: depth + 1]))
            lines.append(f"{line[: found.end('value')]} # {description}" if description else line)
        else:
            lines.append(line)
    return "\n".join(lines)


def reference() -> str:
    """Return docs/params-reference.md: for each group what it is for, and a table of its keys."""
    parts = [INTRODUCTION]
    for name, kind in GROUPS.items():
        rows = [_row(*one) for one in _fields(kind, f"{name}.")]
        head = "| key | default | allowed | meaning |\n| --- | --- | --- | --- |"
        parts.append(f"## {name}\n\n{_docstring(kind)}\n\n{head}\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def _row(key: str, field: FieldInfo, kind: type[BaseModel]) -> str:
    if isinstance(field.default, Group):
        return f"| `{key}` | | | {field.description or ''} |"
    default = "(required)" if field.is_required() else f"`{json.dumps(field.default, ensure_ascii=False)}`"
    return f"| `{key}` | {default} | {allowed(schema_of(key, kind))} | {field.description or ''} |"


def schema_of(key: str, kind: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of the param `key`, a field of `kind`."""
    schema: dict[str, Any] = kind.model_json_schema()["properties"][key.rpartition(".")[2]]
    return schema


def allowed(schema: dict[str, Any]) -> str:
    """Return the values that a field's JSON schema allows, in words."""
    if "anyOf" in schema:
        return " or ".join(allowed(one) for one in schema["anyOf"])
    if choices := schema.get("enum", [schema["const"]] if "const" in schema else []):
        return ", ".join(f"`{choice}`" for choice in choices)
    if schema["type"] == "array":
        return f"list of {allowed(schema['items'])}"
    if "pattern" in schema:
        return f"text like `{schema['pattern']}`".replace("|", "\\|")
    bounds = [f"{sign} {schema[name]:,}" for name, sign in BOUNDS.items() if name in schema]
    return " ".join([TYPES[schema["type"]], ", ".join(bounds)]).strip()


def _docstring(kind: type[Group]) -> str:
    return re.sub(r"\n +", "\n", (kind.__doc__ or "").strip())


def main() -> None:
    """Write both files, in the project's root."""
    comments = with_comments(PARAMS_FILE.read_text(encoding="utf-8"))
    for path, text in ((PARAMS_FILE, comments), (REFERENCE_FILE, reference())):
        with whole_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

"""Writes the descriptions of the params into the comments of params.yaml and into docs/params-reference.md.

The fields in pipeline/params/ are the only place where a param is described: `python -m pipeline.params.reference`
after each change of one.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipeline.core.files import whole_file
from pipeline.params.base import Group
from pipeline.params.groups import GROUPS
from pipeline.params.reader import PARAMS_FILE

REFERENCE_FILE = Path("docs/params-reference.md")
INTRODUCTION = """# Every key of params.yaml

You look for the key to change, its default, or the values it allows. How to try another value: [params.md](params.md).

This page is generated from the classes in `pipeline/params/` by `python -m pipeline.params.reference`.
"""
# A key with its value, and the comment after it.
LINE = re.compile(r"(?P<indent> *)(?P<key>\w+):(?P<value>.*?)(?: # .*)?")
TYPES = {"integer": "integer", "number": "number", "string": "text", "boolean": "true, false", "null": "null"}
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def fields() -> Iterator[tuple[str, FieldInfo, dict[str, Any]]]:
    """Yield the dotted key, the field and its JSON schema of every param; groups within groups come before theirs."""
    for name, kind in GROUPS.items():
        yield from _fields(kind, f"{name}.")


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
        rows = [_row(key, field, schema) for key, field, schema in _fields(kind, f"{name}.")]
        head = "| key | default | allowed | meaning |\n| --- | --- | --- | --- |"
        parts.append(f"## {name}\n\n{_docstring(kind)}\n\n{head}\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def _fields(kind: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo, dict[str, Any]]]:
    schemas = kind.model_json_schema()["properties"]
    for name, field in kind.model_fields.items():
        yield f"{prefix}{name}", field, schemas[name]
        for inner in (field.annotation, *get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from _fields(inner, f"{prefix}{name}.")


def _row(key: str, field: FieldInfo, schema: dict[str, Any]) -> str:
    if isinstance(field.default, Group):
        return f"| `{key}` | | | {field.description or ''} |"
    default = "(required)" if field.is_required() else f"`{json.dumps(field.default, ensure_ascii=False)}`"
    return f"| `{key}` | {default} | {allowed(schema)} | {field.description or ''} |"


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

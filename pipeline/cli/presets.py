"""Presets: named sets of params, printed as the options that DVC takes."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.errors import UserError
from pipeline.files import whole_file
from pipeline.params.reader import flatten, read_yaml

FOLDER = Path(__file__).parents[2] / "presets"


@dataclass(frozen=True)
class Preset:
    """A preset: `title` is its file's first comment line, `params` the nested values it sets."""

    name: str
    title: str
    params: dict[str, Any]

    def options(self) -> Iterator[str]:
        """Yield "-S" and "key=value" in turn."""
        for key, value in flatten(self.params).items():
            yield "-S"
            yield f"{key}={value if isinstance(value, str) else json.dumps(value, separators=(',', ':'))}"


def list_presets() -> list[Preset]:
    """Return all presets, sorted by name."""
    return [read_preset(path.stem) for path in sorted(FOLDER.glob("*.yaml"))]


def read_preset(name: str) -> Preset:
    """Return one preset; UserError if there is none of that name."""
    path = FOLDER / f"{name}.yaml"
    names = [path.stem for path in sorted(FOLDER.glob("*.yaml"))]
    if name not in names:
        raise UserError(f"preset: found {name!r}, allowed are {', '.join(names)}")
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return Preset(name=name, title=first.removeprefix("#").strip(), params=read_yaml(path))


def apply_preset(preset: Preset, path: Path) -> None:
    """Set the preset's values in the params file at `path`; comments and all other values stay."""
    yaml = YAML()
    yaml.width = 120
    content = yaml.load(path.read_text(encoding="utf-8"))
    _merge(content, preset.params)
    with whole_file(path) as part:
        yaml.dump(content, part)


def _merge(content: dict[str, Any], values: dict[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, dict):
            _merge(content[key], value)
        else:
            content[key] = value

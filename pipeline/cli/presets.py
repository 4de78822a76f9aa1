"""Presets: named sets of params, printed as the options that DVC takes."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.params.reader import flatten, read_yaml
from pipeline.params.writing import write_values

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
    write_values(path, flatten(preset.params))

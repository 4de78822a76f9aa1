"""Changing single values of params.yaml: comments, formatting and all other values stay."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import RoundTripRepresenter

from pipeline.files import whole_file

WIDTH = 120


class _Representer(RoundTripRepresenter):
    """Writes an absent value as `null`, as params.yaml has it; ruamel would leave it empty."""

    def represent_null(self, _: object) -> ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:null", "null")


_Representer.add_representer(type(None), _Representer.represent_null)


def write_values(path: Path, values: Mapping[str, Any]) -> None:
    """Set `values` (by dotted key, each of which must exist) in the params file `path`, which changes as a whole."""
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
    with whole_file(path) as part:
        yaml.dump(content, part)


def _flow(values: list[Any]) -> CommentedSeq:
    """Return a list that is written on one line, as params.yaml has its lists."""
    sequence = CommentedSeq(values)
    sequence.fa.set_flow_style()
    return sequence

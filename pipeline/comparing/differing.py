"""Which params differ between models, which of them matter most, and short names for them. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.params.reader import PARAMS_FILE, flatten, read_yaml
from pipeline.tracking.execution import params_of
from pipeline.tracking.git import changed_files, file_at
from pipeline.tracking.project import baseline, project_root

# Groups in the order of what usually explains a difference in perplexity.
IMPORTANCE = ("data", "model", "train", "split", "clean", "evaluate", "generate", "validate", "register")
# Keys that change no weight and no figure come last, whatever their group.
UNIMPORTANT = ("train.checkpoint_seconds", "train.threads", "train.device")
ABSENT = "absent"
MAX_VALUE = 24


def differing(params: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the dotted keys that do not have the same value in all of `params`, the most important first."""
    keys = dict.fromkeys(key for one in params for key in one)
    return sorted((key for key in keys if len({_hashable(one, key) for one in params}) > 1), key=_rank)


def short_names(keys: Sequence[str], *, all_keys: Sequence[str] | None = None) -> dict[str, str]:
    """Return for each key as few of its last parts as name it alone among `all_keys` (by default among `keys`)."""
    every = list(dict.fromkeys(all_keys or keys))
    return {key: _shortest(key, every) for key in keys}


def value_text(params: Mapping[str, Any], key: str) -> str:
    """Return the value of a param as one short line."""
    if key not in params:
        return ABSENT
    value = params[key]
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else f"{value}"
    if isinstance(value, float):
        text = f"{value:.6g}"
    if isinstance(value, list):
        text = "[" + ", ".join(map(str, value)) + "]"
    # Of a path the end tells most.
    return text if len(text) <= MAX_VALUE else f"…{text[-MAX_VALUE + 1 :]}"


def _hashable(params: Mapping[str, Any], key: str) -> str:
    return repr(params[key]) if key in params else ABSENT


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


@dataclass(frozen=True)
class Changes:
    """`params` are (key, value in the commit, value now), the most important first; `files` are other files.

    `in_workspace` is whether the folder is the project itself: an experiment's temporary copy changes nothing there.
    """

    params: list[tuple[str, str, str]]
    files: list[str]
    in_workspace: bool


def changes_here(root: Path) -> Changes:
    """Return how the working tree in `root` differs from the commit; results of stages do not count."""
    in_workspace = root.resolve() == project_root()
    commit = baseline()
    text = file_at(commit, PARAMS_FILE.name, folder=root) if commit else None
    if text is None:
        return Changes([], [], in_workspace)
    before, now = params_of(text), flatten(read_yaml(root / PARAMS_FILE))
    params = [(key, value_text(before, key), value_text(now, key)) for key in differing([before, now])]
    files = [name for name in changed_files(commit, folder=root) if name != PARAMS_FILE.name]
    return Changes(params, files, in_workspace)

"""What differs between the working tree and the commit that it builds on."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.comparing.differing import differing, value_text
from pipeline.params.reader import PARAMS_FILE, flatten, read_yaml
from pipeline.tracking.facts import params_of
from pipeline.tracking.git import changed_files, file_at
from pipeline.tracking.project import baseline, project_root


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

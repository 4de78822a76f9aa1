"""What Git tells of a model beyond its files: the commit that it was made from, and what differs from it."""

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline.errors import UserError
from pipeline.params.reader import PARAMS_FILE, flatten, read_yaml

# Params have a table of their own on the page, and results follow from the rest.
TOLD_ELSEWHERE = ("params.yaml", "dvc.lock", "metrics", "plots")


def facts_of_workspace() -> dict[str, Any]:
    """Return the facts of the working tree: it is the commit that is checked out, and what was changed since."""
    return _facts(commit=_git("rev-parse", "HEAD"), revision=None)


def facts_of(revision: str) -> dict[str, Any]:
    """Return the facts of a DVC experiment: its baseline, and what it changed; or of a commit."""
    # DVC keeps an experiment as refs/exps/<2 digits of its baseline>/<the other 38>/<name>.
    found = _git("for-each-ref", "--format=%(refname)", f"refs/exps/*/*/{revision}").split("\n")[0]
    if not found:
        return _facts(commit=_git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"), revision=revision)
    two, rest = found.split("/")[2:4]
    return _facts(commit=two + rest, revision=found) | {"experiment": revision}


def _facts(*, commit: str, revision: str | None) -> dict[str, Any]:
    if not commit:
        return {}
    between = [commit] if revision is None else [commit, revision]
    exclude = [f":(exclude){path}" for path in TOLD_ELSEWHERE]
    files = _git("diff", "--name-only", *between, "--", ".", *exclude).splitlines()
    return {"commit": commit, "baseline": _params_at(commit), "changed_files": files}


def _params_at(commit: str) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / PARAMS_FILE.name
        path.write_text(_git("show", f"{commit}:./{PARAMS_FILE}"), encoding="utf-8")
        try:
            return flatten(read_yaml(path))
        except UserError:
            return {}


def _git(*arguments: str) -> str:
    answer = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)  # noqa: S603, S607
    return answer.stdout.strip() if answer.returncode == 0 else ""

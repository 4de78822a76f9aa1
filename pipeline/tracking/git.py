"""What Git knows of a project: its commit, what differs from one, and files as they were. Reads only."""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

# What a run of the pipeline itself rewrites: it does not make the tree unclean, and is no part of a patch.
WRITTEN_BY_STAGES = ("dvc.lock", "metrics", "plots")
# New files count as changes only here: they are code that a stage imports before anyone has added it to Git.
CODE = ("pipeline", "stages")
# A person's own settings must not change what is read here.
PLAIN = (
    "-c",
    "core.quotepath=off",
    "-c",
    "color.ui=false",
    "-c",
    "diff.noprefix=false",
    "-c",
    "diff.mnemonicPrefix=false",
)
# `git cat-file --batch` writes "NAME blob SIZE" before a file, or "NAME missing".
HEADER_WORDS = 3
DIFF = ("diff", "--binary", "--no-ext-diff", "--no-textconv", "--no-color", "--src-prefix=a/", "--dst-prefix=b/")


@dataclass(frozen=True)
class Git:
    """The checked-out commit ("" outside of a repository) and whether what makes a model was as in it."""

    commit: str
    clean: bool


@cache
def git_state() -> Git:
    """Return the state of the working tree that this process runs in."""
    commit = git("rev-parse", "HEAD").strip()
    changed = git("status", "--porcelain", "-uno", *_sources()) or _new_code(None)
    return Git(commit=commit, clean=bool(commit) and not changed)


def git(*arguments: str, folder: Path | None = None) -> str:
    """Return what a git command prints, "" if it fails."""
    return _run(arguments, folder).decode("utf-8", "replace")


def file_at(revision: str, name: str, *, folder: Path | None = None) -> str | None:
    """Return the text of file `name` in `revision`, None if there is no such revision or file."""
    answer = subprocess.run(
        ["git", "show", f"{revision}:./{name}"],
        cwd=folder,
        capture_output=True,
        check=False,
    )
    return answer.stdout.decode("utf-8", "replace") if answer.returncode == 0 else None


def files_at(names: Sequence[tuple[str, str]], *, folder: Path | None = None) -> list[str | None]:
    """Return the texts of files, each given as (revision, name); None for one that is not there. Starts one process."""
    asked = "".join(f"{revision}:./{name}\n" for revision, name in names).encode()
    answer = subprocess.run(
        ["git", "cat-file", "--batch"],
        cwd=folder,
        input=asked,
        capture_output=True,
        check=False,
    ).stdout
    texts: list[str | None] = []
    at = 0
    while at < len(answer):
        end = answer.index(b"\n", at)
        header = answer[at:end].split()
        at = end + 1
        if len(header) == HEADER_WORDS and header[1] == b"blob" and header[2].isdigit():
            size = int(header[2])
            texts.append(answer[at : at + size].decode("utf-8", "replace"))
            at += size + 1
        else:
            texts.append(None)
    return texts if len(texts) == len(names) else [None] * len(names)


def changed_files(baseline: str, revision: str | None = None, *, folder: Path | None = None) -> list[str]:
    """Return the files that differ between `baseline` and `revision` (the working tree by default), results apart."""
    revisions = filter(None, (baseline, revision))
    names = git("diff", "--name-only", "-z", *revisions, *_sources(), folder=folder).split("\0")
    return sorted({*filter(None, names), *([] if revision else _new_code(folder))})


def patch_since(baseline: str, revision: str | None = None, *, folder: Path | None = None) -> bytes:
    """Return the patch that makes `baseline` into `revision` (the working tree by default), results apart."""
    patch = _run([*DIFF, *filter(None, (baseline, revision)), *_sources()], folder)
    for name in [] if revision else _new_code(folder):
        patch += _run([*DIFF, "--no-index", "--", os.devnull, name], folder)
    return patch


def _new_code(folder: Path | None) -> list[str]:
    names = git("ls-files", "-z", "--others", "--exclude-standard", "--", *CODE, folder=folder).split("\0")
    return [name for name in names if name]


def _sources() -> list[str]:
    return ["--", ".", *(f":(exclude){path}" for path in WRITTEN_BY_STAGES)]


def _run(arguments: Sequence[str], folder: Path | None) -> bytes:
    answer = subprocess.run(["git", *PLAIN, *arguments], cwd=folder, capture_output=True, check=False)
    return answer.stdout

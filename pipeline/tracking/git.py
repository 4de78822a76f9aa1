"""Reads from Git: the commit, what differs from it, files of other revisions, and DVC's experiments."""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

# The stages rewrite these: a change here does not make the tree unclean, and is not part of a patch.
WRITTEN_BY_STAGES = ("dvc.lock", "metrics", "plots")
# Untracked files count as changes only here: a stage may import code that nobody has added to Git yet.
CODE = ("pipeline", "stages")
# The user's own settings must not change what is read here.
SETTINGS = ("core.quotepath=off", "color.ui=false", "diff.noprefix=false", "diff.mnemonicPrefix=false")
# `git cat-file --batch` writes "NAME blob SIZE" before a file, or "NAME missing".
HEADER_WORDS = 3
# DVC stores an experiment as refs/exps/<2 digits of its baseline>/<the other 38>/<name>.
EXPERIMENT_REFS = "refs/exps/??/*/*"
DIFF = ("diff", "--binary", "--no-ext-diff", "--no-textconv", "--no-color", "--src-prefix=a/", "--dst-prefix=b/")


@dataclass(frozen=True)
class Git:
    """The checked-out commit ("" outside of a repository), and whether code and params are as in that commit."""

    commit: str
    clean: bool


@cache
def git_state() -> Git:
    """Return the state of the current working tree."""
    commit = git("rev-parse", "HEAD").strip()
    changed = git("status", "--porcelain", "-uno", *_sources()) or _new_code(None)
    return Git(commit=commit, clean=bool(commit) and not changed)


def git(*arguments: str, folder: Path | None = None) -> str:
    """Return the output of a git command, "" if it fails."""
    return _run(arguments, folder).decode("utf-8", "replace")


def file_at(revision: str, name: str, *, folder: Path | None = None) -> str | None:
    """Return the text of file `name` in `revision`, None if there is no such revision or file."""
    return files_at([(revision, name)], folder=folder)[0]


def files_at(names: Sequence[tuple[str, str]], *, folder: Path | None = None) -> list[str | None]:
    """Return the texts of files, each given as (revision, name), in one process; None for a missing file."""
    requested = "".join(f"{revision}:./{name}\n" for revision, name in names).encode()
    answer = subprocess.run(
        ["git", "cat-file", "--batch"], cwd=folder, input=requested, capture_output=True, check=False
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
    """Return the names of files that differ between `baseline` and `revision`, without stages' results.

    `revision` is the working tree by default.
    """
    revisions = filter(None, (baseline, revision))
    names = git("diff", "--name-only", "-z", *revisions, *_sources(), folder=folder).split("\0")
    return sorted({*filter(None, names), *([] if revision else _new_code(folder))})


def patch_since(baseline: str, revision: str | None = None, *, folder: Path | None = None) -> bytes:
    """Return the patch from `baseline` to `revision` (by default the working tree), without stages' results."""
    patch = _run([*DIFF, *filter(None, (baseline, revision)), *_sources()], folder)
    for name in [] if revision else _new_code(folder):
        patch += _run([*DIFF, "--no-index", "--", os.devnull, name], folder)
    return patch


@dataclass(frozen=True)
class Experiment:
    """A DVC experiment: its name, its baseline commit, its own commit, and when it was created (Unix seconds)."""

    name: str
    baseline: str
    commit: str
    created: float


def experiments() -> list[Experiment]:
    """Return the experiments in this repository, of every baseline, the oldest first."""
    form = "%(refname) %(objectname) %(committerdate:unix)"
    found = []
    for line in git("for-each-ref", f"--format={form}", EXPERIMENT_REFS, "--sort=committerdate").splitlines():
        ref, commit, created = line.rsplit(" ", 2)
        _, _, two, rest, name = ref.split("/", 4)
        found.append(Experiment(name=name, baseline=f"{two}{rest}", commit=commit, created=float(created)))
    return found


def _new_code(folder: Path | None) -> list[str]:
    names = git("ls-files", "-z", "--others", "--exclude-standard", "--", *CODE, folder=folder).split("\0")
    return [name for name in names if name]


def _sources() -> list[str]:
    return ["--", ".", *(f":(exclude){path}" for path in WRITTEN_BY_STAGES)]


def _run(arguments: Sequence[str], folder: Path | None) -> bytes:
    settings = [word for setting in SETTINGS for word in ("-c", setting)]
    return subprocess.run(["git", *settings, *arguments], cwd=folder, capture_output=True, check=False).stdout

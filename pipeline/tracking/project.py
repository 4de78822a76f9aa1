"""The project: its folders, its state in Git, and the DVC command that runs this stage."""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import psutil
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.params.reader import LOCK_FILE

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


def read_files(revisions: Sequence[str], names: Sequence[str]) -> list[dict[str, str | None]]:
    """Return for each revision the texts of the files `names` by name; None if neither Git nor DVC's cache has one."""
    wanted = [*names, str(LOCK_FILE)]
    texts = iter(files_at([(revision, name) for revision in revisions for name in wanted]))
    found = [{name: next(texts) for name in wanted} for _ in revisions]
    for files in found:
        hashes = _hashes(files[str(LOCK_FILE)] or "")
        for name in names:
            if files[name] is None and name in hashes:
                files[name] = _cached(hashes[name])
    return found


@lru_cache(maxsize=64)
def _hashes(lock: str) -> dict[str, str]:
    """Return the MD5 of each output in a dvc.lock."""
    try:
        # Not the pure Python parser, which is ten times slower. YAML 1.1 and 1.2 read paths and hashes alike.
        content: dict[str, Any] = YAML(typ="safe").load(lock) or {}
        outs = [out for stage in content.get("stages", {}).values() for out in stage.get("outs", [])]
        return {out["path"]: out["md5"] for out in outs if "md5" in out}
    except (YAMLError, AttributeError, KeyError, TypeError):
        return {}


def _cached(md5: str) -> str | None:
    try:
        return (_cache_folder() / md5[:2] / md5[2:]).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


@lru_cache(maxsize=1)
def _cache_folder() -> Path:
    from dvc.config import Config  # knows whether the cache is elsewhere than in .dvc/cache

    folder = project_root() / ".dvc"
    place = Config(str(folder)).get("cache", {}).get("dir")
    return folder / str(place or "cache") / "files/md5"


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


def project_root() -> Path:
    """Return the project's folder, which relative paths in params refer to, with mlflow.db and mlruns/.

    DVC sets DVC_ROOT to it, also when a stage runs in a temporary copy; without DVC it is the current folder.
    """
    return Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()


def state_folder() -> Path:
    """Return the folder for files that are neither inputs nor outputs: sessions, downloads, locks."""
    return project_root() / ".charlm"


def dvc_environment() -> dict[str, str]:
    """Return the environment variables of a dvc command: this Python comes first in PATH, for the stages."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return os.environ | {"PATH": path, "DVC_NO_ANALYTICS": "true", "PYTHONUNBUFFERED": "1"}


def experiment_name() -> str | None:
    """Return the name of the DVC experiment that this stage runs in, None in a plain repro."""
    return os.environ.get("DVC_EXP_NAME") or None


def baseline() -> str:
    """Return the commit that this execution builds on: the experiment's baseline, or HEAD outside of an experiment."""
    return os.environ.get("DVC_EXP_BASELINE_REV") or git_state().commit


def session_name() -> str:
    """Return a text that is the same for all stages of one execution of the pipeline, and differs between executions.

    It consists of the experiment's name and baseline, and the process id and start time of `dvc_ancestor`.
    """
    ancestor = dvc_ancestor()
    parts = (
        os.environ.get("DVC_EXP_NAME", ""),
        os.environ.get("DVC_EXP_BASELINE_REV", ""),
        str(ancestor.pid),
        f"{ancestor.create_time():.2f}",
    )
    return "|".join(parts)


def dvc_ancestor() -> psutil.Process:
    """Return the nearest ancestor process that is dvc; without one the parent, a shell in which stages run by hand."""
    ancestors = psutil.Process().parents()
    for process in ancestors:
        try:
            words = [Path(word).name for word in process.cmdline()[:3]]
        except psutil.Error:
            continue
        if "dvc" in words:
            return process
    return ancestors[0] if ancestors else psutil.Process()


# Options of `dvc repro` and `dvc exp run`, without and with a value, that leave all stages to run in this folder.
FLAGS = (
    "-f",
    "--force",
    "-q",
    "--quiet",
    "-v",
    "--verbose",
    "--pull",
    "--no-run-cache",
    "--no-commit",
    "--wait-for-lock",
)
VALUES = ("-S", "--set-param", "-n", "--name", "-m", "--message")


def will_register() -> bool:
    """Return whether the dvc command that runs this stage will also run `register` and `summary`; False if unsure."""
    try:
        return runs_all_stages(dvc_ancestor().cmdline())
    except psutil.Error:
        return False


def runs_all_stages(command: Sequence[str]) -> bool:
    """Return whether `command` is `dvc repro` or `dvc exp run` without targets, and not with --queue or --temp."""
    names = [Path(word).name for word in command[:3]]
    if "dvc" not in names:
        return False
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument(*FLAGS, dest="flags", action="store_true")
    parser.add_argument(*VALUES, dest="values", action="append")
    parser.add_argument("words", nargs="*")
    try:
        found, unknown = parser.parse_known_intermixed_args(list(command[names.index("dvc") + 1 :]))
    except argparse.ArgumentError:
        return False
    return not unknown and found.words in (["repro"], ["exp", "run"], ["experiments", "run"])

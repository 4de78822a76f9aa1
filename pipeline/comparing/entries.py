"""Reads the models to compare (the workspace, commits, DVC experiments), and orders them.

Their figures and params come from Git, or from DVC's cache for files that Git does not track. Figures measured on
different eval texts are never ranked against each other.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.core.errors import UserError
from pipeline.core.files import REGISTRATION as REGISTRATION_FILE
from pipeline.core.files import SUMMARY as SUMMARY_FILE
from pipeline.core.files import metrics_of
from pipeline.params.reader import LOCK_FILE, PARAMS_FILE, stages_in_step
from pipeline.tracking.differences import params_of
from pipeline.tracking.project import Experiment, experiments, files_at, git, project_root
from pipeline.tracking.store import Registered

WORKSPACE = "workspace"
EVALUATE, TRAIN = str(metrics_of("evaluate")), str(metrics_of("train"))
SUMMARY, REGISTRATION = str(SUMMARY_FILE), str(REGISTRATION_FILE)
FILES = (PARAMS_FILE.name, EVALUATE, TRAIN, SUMMARY, REGISTRATION)
COMMIT_DIGITS, HASH_DIGITS = 7, 8
STALE = (
    "left out: the workspace; its params or data were edited since its last run, so its figures belong to another "
    "model; `dvc repro` or `dvc exp run` updates them"
)


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


@dataclass(frozen=True)
class Entry:
    """A model and its figures, None where they are unknown.

    `seconds` is the time of training. `eval_text` is the SHA-256 of the text that `perplexity` was measured on, and
    `window` the length of the windows: figures are comparable only if both are equal. `is_here` is whether the
    workspace has this model.
    """

    name: str
    kind: str
    commit: str | None
    perplexity: float | None = None
    baseline_perplexity: float | None = None
    bits_per_char: float | None = None
    seconds: float | None = None
    eval_text: str | None = None
    weights: str | None = None
    is_here: bool = False
    params: dict[str, Any] = field(default_factory=dict)

    @property
    def window(self) -> int | None:
        """The number of characters in each window that perplexity was measured on."""
        return self.params.get("evaluate.window")


@dataclass(frozen=True)
class Found:
    """The entries to compare, remarks about entries left out, and the number of experiments that are not shown."""

    entries: list[Entry]
    remarks: list[str]
    others: int = 0


def everything_here(*, every_baseline: bool = False) -> Found:
    """Return the workspace, the current commit and the experiments on it, or those on every commit."""
    head = git("rev-parse", "HEAD").strip()
    known = experiments()
    shown = [one for one in known if every_baseline or one.baseline == head]
    revisions = [(one.name, "experiment", one.commit) for one in shown]
    if head:
        revisions.insert(0, (_commit_name(head), "commit", head))
    entries, remarks = _with_workspace(_read(revisions))
    # A commit without results, as in a new project, is left out.
    entries = [one for one in entries if one.kind != "commit" or one.perplexity is not None]
    return Found(entries, remarks, others=len(known) - len(shown))


def named(names: Sequence[str]) -> Found:
    """Return the entries of experiments, commits or "workspace"; UserError if there is no such revision."""
    known = {one.name: one for one in experiments()}  # the newer one, if two commits have one of this name
    revisions = [_resolve(name, known) for name in dict.fromkeys(names) if name != WORKSPACE]
    entries = _read(revisions)
    if WORKSPACE not in names:
        return Found(entries, [])
    with_workspace, remarks = _with_workspace(entries)
    return Found(with_workspace, remarks)


def _resolve(name: str, known: Mapping[str, Experiment]) -> tuple[str, str, str]:
    if name in known:
        return name, "experiment", known[name].commit
    commit = git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").strip()
    if not commit:
        raise UserError(f"{name}: no such experiment or commit; `dvc exp list --all` names the experiments")
    by_commit = [one for one in known.values() if one.commit == commit]
    if by_commit:
        return by_commit[0].name, "experiment", commit
    return (_commit_name(commit) if name == "HEAD" else name), "commit", commit


def _commit_name(commit: str) -> str:
    branch = git("rev-parse", "--abbrev-ref", "HEAD").strip()
    return f"{commit[:COMMIT_DIGITS]} ({branch})" if branch not in {"", "HEAD"} else commit[:COMMIT_DIGITS]


def _read(revisions: Sequence[tuple[str, str, str]]) -> list[Entry]:
    files = read_files([commit for _, _, commit in revisions], FILES)
    return [
        _entry(texts, name=name, kind=kind, commit=commit)
        for (name, kind, commit), texts in zip(revisions, files, strict=True)
    ]


def _with_workspace(entries: list[Entry]) -> tuple[list[Entry], list[str]]:
    """Add the workspace's model, or mark the entry that is the same model."""
    texts = {name: _text(Path(name)) for name in (*FILES, str(LOCK_FILE))}
    here = _entry(texts, name=WORKSPACE, kind=WORKSPACE, commit=None)
    if here.perplexity is None:
        return entries, []
    # dvc.lock may be absent where stages are run by hand.
    if texts[str(LOCK_FILE)] is not None and "evaluate" not in stages_in_step(Path()):
        return entries, [STALE]
    same = [one for one in entries if _is_same(one, here)]
    if not same:
        return [replace(here, is_here=True), *entries], []
    # The commit and an experiment without changes are the same model: mark only one.
    return [replace(one, is_here=True) if one is same[-1] else one for one in entries], []


def _is_same(one: Entry, other: Entry) -> bool:
    return (one.params, one.perplexity, one.seconds, one.eval_text) == (
        other.params,
        other.perplexity,
        other.seconds,
        other.eval_text,
    )


def _entry(texts: Mapping[str, str | None], *, name: str, kind: str, commit: str | None) -> Entry:
    evaluate, train, summary, registration = (
        _figures(texts[file]) for file in (EVALUATE, TRAIN, SUMMARY, REGISTRATION)
    )
    perplexity = _number(evaluate, "perplexity") or _number(summary, "perplexity")
    # The registration may belong to an older model, as after `dvc exp run evaluate`.
    registered = registration if registration.get("perplexity") == perplexity else {}
    return Entry(
        name=name,
        kind=kind,
        commit=commit,
        perplexity=perplexity,
        baseline_perplexity=_number(evaluate, "baseline_perplexity") or _number(summary, "baseline_perplexity"),
        bits_per_char=_number(evaluate, "bits_per_char") or _number(summary, "bits_per_char"),
        seconds=_number(train, "seconds") or _number(summary, "train_seconds"),
        eval_text=evaluate.get("eval_sha256") or registered.get("eval_sha256"),
        weights=registered.get("weights_sha256"),
        params=params_of(texts[PARAMS_FILE.name]),
    )


def _figures(text: str | None) -> dict[str, Any]:
    try:
        content = json.loads(text or "{}")
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _number(figures: Mapping[str, Any], key: str) -> float | None:
    value = figures.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


@dataclass(frozen=True)
class Group:
    """Entries that were measured on the same eval text with the same window, the best first.

    Entries with an unknown eval text, or without figures, are in a group with `eval_text` None.
    """

    eval_text: str | None
    window: int | None
    entries: list[Entry]

    @property
    def title(self) -> str:
        """What the entries have in common."""
        if self.eval_text is None:
            return "eval text unknown: not ranked"
        sources = {str(one.params.get("data.source")).rpartition("/")[2] for one in self.entries}
        return f"eval text {self.eval_text[:HASH_DIGITS]} of {', '.join(sorted(sources))}, windows of {self.window}"


def by_text(entries: Iterable[Entry]) -> list[Group]:
    """Return `entries` in groups that can be ranked, first the workspace's group, then the largest."""
    groups: dict[tuple[str | None, int | None], list[Entry]] = {}
    for one in entries:
        known = one.eval_text is not None and one.perplexity is not None
        groups.setdefault((one.eval_text, one.window) if known else (None, None), []).append(one)
    ranked = [
        Group(
            text,
            window,
            sorted(found, key=lambda one: float("inf") if one.perplexity is None or text is None else one.perplexity),
        )
        for (text, window), found in groups.items()
    ]
    return sorted(
        ranked,
        key=lambda one: (one.eval_text is None, not any(entry.is_here for entry in one.entries), -len(one.entries)),
    )


def aliases(entries: Sequence[Entry], registered: Mapping[str, Registered]) -> dict[str, Registered]:
    """Return by entry name the registered version with the same weights, if it has an alias."""
    found = {one.name: registered.get(one.weights or "") for one in entries}
    return {name: version for name, version in found.items() if version is not None and version.alias}

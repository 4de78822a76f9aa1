"""Reads the models to compare (the workspace, commits, DVC experiments), and orders them.

Their figures and params come from Git, or from DVC's cache for files that Git does not track. Figures that were not
measured alike are never ranked against each other.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError
from pipeline.core.files import REGISTRATION as REGISTRATION_FILE
from pipeline.core.files import SUMMARY as SUMMARY_FILE
from pipeline.core.files import metrics_of
from pipeline.evaluation.measurement import Record, measurement_id, record_in
from pipeline.params.reader import LOCK_FILE, PARAMS_FILE, stages_in_step
from pipeline.params.text import source_name
from pipeline.tracking.differences import params_of
from pipeline.tracking.project import Experiment, experiments, git, read_files
from pipeline.tracking.store import Key, Registered, model_key

WORKSPACE = "workspace"
EVALUATE, TRAIN = str(metrics_of("evaluate")), str(metrics_of("train"))
SUMMARY, REGISTRATION = str(SUMMARY_FILE), str(REGISTRATION_FILE)
FILES = (PARAMS_FILE.name, EVALUATE, TRAIN, SUMMARY, REGISTRATION)
COMMIT_DIGITS, HASH_DIGITS = 7, 8
STALE = (
    "left out: the workspace; its params or data were edited since its last run, so its figures belong to another "
    "model; `dvc repro` or `dvc exp run` updates them"
)


@dataclass(frozen=True)
class Entry:
    """A model and its figures, None where they are unknown.

    `seconds` is the time of training. `measurement` is the record of how `perplexity` was measured: figures are
    comparable only if it is the same. `is_here` is whether the workspace has this model.
    """

    name: str
    kind: str
    commit: str | None
    perplexity: float | None = None
    baseline_perplexity: float | None = None
    bits_per_char: float | None = None
    seconds: float | None = None
    measurement: Record | None = None
    weights: str | None = None
    is_here: bool = False
    params: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> Key | None:
        """What identifies the model in the registry."""
        return model_key(self.weights, self.perplexity, measurement_id(self.measurement))


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
    return (one.params, one.perplexity, one.seconds, one.measurement) == (
        other.params,
        other.perplexity,
        other.seconds,
        other.measurement,
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
        measurement=record_in(evaluate) or record_in(registered),
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
    """Entries that were measured alike, the best first.

    Entries without a record of their measurement, or without figures, are in a group with `measurement` None.
    """

    measurement: Record | None
    entries: list[Entry]

    @property
    def title(self) -> str:
        """What the entries have in common."""
        if self.measurement is None:
            return "no record of how it was measured: not ranked"
        sources = {source_name(str(one.params.get("data.source"))) for one in self.entries}
        text, window = str(self.measurement["eval_sha256"])[:HASH_DIGITS], self.measurement["window"]
        return f"eval text {text} of {', '.join(sorted(sources))}, windows of {window}"


def by_measurement(entries: Iterable[Entry]) -> list[Group]:
    """Return `entries` in groups that can be ranked, first the workspace's group, then the largest."""
    groups: dict[str, list[Entry]] = {}
    for one in entries:
        groups.setdefault("" if one.perplexity is None else measurement_id(one.measurement), []).append(one)
    unknown = groups.pop("", [])
    ranked = [
        Group(found[0].measurement, sorted(found, key=lambda one: one.perplexity or 0.0)) for found in groups.values()
    ]
    ranked += [Group(None, unknown)] if unknown else []
    return sorted(
        ranked,
        key=lambda one: (one.measurement is None, not any(entry.is_here for entry in one.entries), -len(one.entries)),
    )


def aliases(entries: Sequence[Entry], registered: Mapping[Key, Registered]) -> dict[str, Registered]:
    """Return by entry name the registered version that is the same model, measured alike, if it has an alias."""
    found = {one.name: registered.get(one.key) for one in entries if one.key is not None}
    return {name: version for name, version in found.items() if version is not None and version.alias}

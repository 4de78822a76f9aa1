"""The figures at the top of the page and those of the corpus: one row each, one value per project."""

import platform
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import PurePath
from typing import Any, Literal

from pipeline.reporting.formatting import NOTHING, decimal, is_number, param, percent, seconds, whole
from pipeline.reporting.project import Project, why_not_comparable


@dataclass(frozen=True)
class Setting:
    """A param: its key within the group, its value in each project, and whether it is worth looking at.

    `baseline` is the value in the commit that the first project was made from, if it differs there.
    """

    key: str
    values: tuple[str, ...]
    marked: bool
    baseline: str = ""


def settings(projects: Sequence[Project], *, only_different: bool = False) -> dict[str, list[Setting]]:
    """Return the params by group, marked where projects differ, or one does from the commit it was made from."""
    keys = dict.fromkeys(key for project in projects for key in project.params)
    groups: dict[str, list[Setting]] = {}
    for key in keys:
        values = tuple(param(one.params[key]) if key in one.params else NOTHING for one in projects)
        differs = len(set(values)) > 1
        if only_different and not differs:
            continue
        changed = len(projects) == 1 and key in projects[0].changed
        baseline = param(projects[0].facts["baseline"].get(key)) if changed else ""
        group, _, name = key.partition(".")
        groups.setdefault(group, []).append(Setting(name or key, values, differs or changed, baseline))
    return groups


def commands(project: Project) -> list[str]:
    """Return the commands that make the project's model again, in the project's own folder."""
    commit = project.facts.get("commit")
    options = "".join(f" -S {shlex.quote(f'{key}={param(value)}')}" for key, value in project.changed.items())
    run = f"dvc exp run{options}" if options else "dvc repro"
    return [*([f"git checkout {commit}"] if commit else []), "make install", ". .venv/bin/activate", run]


def changed_files(project: Project) -> list[str]:
    """Return the files that differ from the commit: without them the commands make something else."""
    return [str(name) for name in project.facts.get("changed_files", ())]


PACKAGES = ("charlm", "torch", "numpy", "mlflow", "dvc")


def versions() -> list[tuple[str, str]]:
    """Return names and versions; a package that is not installed is left out."""
    found = [("python", platform.python_version())]
    for name in PACKAGES:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return [*found, ("platform", f"{platform.system()} {platform.machine()}")]


Better = Literal["lower", "higher"]


@dataclass(frozen=True)
class Figure:
    """A figure: its name, its value for each project as it is shown, which of them are the best, and what it means."""

    name: str
    values: tuple[str, ...]
    best: tuple[bool, ...]
    note: str = ""


def headline(projects: Sequence[Project]) -> list[Figure]:
    """Return what one asks first; the best are marked if all were measured on the same text in the same way."""
    ranked = len(projects) > 1 and not why_not_comparable(projects)

    def figure(name: str, stage: str, key: str, show: Callable[[Any], str], better: Better, note: str = "") -> Figure:
        values = [project.metrics(stage).get(key) for project in projects]
        best = _best(values, better) if ranked else (False,) * len(values)
        return Figure(name, tuple(map(show, values)), best, note)

    rows = [
        figure("Perplexity", "evaluate", "perplexity", decimal, "lower", _protocol(projects)),
        _plain("N-gram baseline", _baselines(projects, "baseline_perplexity"), _baseline_name(projects)),
        figure("Bits per character", "evaluate", "bits_per_char", decimal, "lower", "log₂ of the perplexity"),
        figure("Test perplexity", "evaluate", "test_perplexity", decimal, "lower", "text that nothing was chosen by"),
        figure("Accuracy", "evaluate", "accuracy", percent, "higher", "the likeliest character was right"),
        figure("With the state carried", "evaluate", "perplexity_stateful", decimal, "lower", "perplexity, whole text"),
        figure("Learning as it reads", "evaluate", "perplexity_adaptive", decimal, "lower", "perplexity, whole text"),
        _plain("Baseline, state carried", _baselines(projects, "baseline_perplexity_stateful"), "n-gram, whole text"),
        figure("Training", "train", "seconds", seconds, "lower", _hardware(projects)),
        _plain("Parameters", [whole(one.metrics("train").get("parameters")) for one in projects], _network(projects)),
        _plain("Corpus", [whole(one.metrics("split").get("characters")) for one in projects], _source(projects)),
    ]
    if len(projects) > 1:
        rows += [
            _plain("Network", [network(project) for project in projects]),
            _plain("Trained on", [hardware(project) for project in projects]),
            _plain("Text", [source(project) for project in projects]),
        ]
    return [row for row in rows if set(row.values) != {NOTHING}]


def corpus(projects: Sequence[Project]) -> list[Figure]:
    """Return the corpus in figures, from the text as it was found to the splits."""
    entries = (
        ("Documents", "clean", "documents", whole, ""),
        ("Empty documents", "clean", "empty_documents", whole, "left out"),
        ("Duplicate documents", "clean", "duplicate_documents", whole, "left out"),
        ("Characters found", "ingest", "characters", whole, ""),
        ("Characters replaced", "clean", "replaced", whole, ""),
        ("Characters dropped", "clean", "dropped", whole, ""),
        ("Rare characters", "clean", "rare_characters", whole, "became the unknown symbol"),
        ("Characters after cleaning", "clean", "characters", whole, ""),
        ("Dictionary", "split", "dictionary_size", whole, "ids, padding included"),
        ("Training text", "split", "train_chars", whole, "characters"),
        ("Eval text", "split", "eval_chars", whole, "characters"),
        ("Test text", "split", "test_chars", whole, "characters"),
        ("Training documents", "split", "train_documents", whole, "samples of their own"),
        ("Padding", "split", "padding", percent, "of all places in the buckets"),
        ("Training text, SHA-256", "split", "train_sha256", _short, ""),
        ("Eval text, SHA-256", "split", "eval_sha256", _short, ""),
    )
    rows = [
        _plain(name, [show(project.metrics(stage).get(key)) for project in projects], note)
        for name, stage, key, show, note in entries
    ]
    rows = [row for row in rows if set(row.values) != {NOTHING}]
    return [_plain("Source", [source(project) for project in projects]), *rows] if rows else []


def network(project: Project) -> str:
    """Return the network in words."""
    values = [project.params.get(f"model.{key}") for key in ("cell", "num_layers", "num_hidden")]
    if None in values:
        return NOTHING
    cell, layers, hidden = values
    return f"{str(cell).upper()}, {layers} {'layer' if layers == 1 else 'layers'} of {hidden}"


def hardware(project: Project) -> str:
    """Return what it was trained on."""
    train = project.metrics("train")
    if "device" not in train:
        return NOTHING
    threads = train.get("threads")
    shown = f", {threads} {'thread' if threads == 1 else 'threads'}" if is_number(threads) else ""
    return f"{train.get('precision')} on {train['device']}{shown}"


def source(project: Project) -> str:
    """Return the text's name."""
    value = project.params.get("data.source")
    return PurePath(param(value)).name if value else NOTHING


def _plain(name: str, values: Sequence[str], note: str = "") -> Figure:
    return Figure(name, tuple(values), (False,) * len(values), note)


def _best(values: Sequence[Any], better: Better) -> tuple[bool, ...]:
    """Return which values are the best; none if one is missing or all are the same."""
    if not all(map(is_number, values)) or len(set(values)) == 1:
        return (False,) * len(values)
    best = min(values) if better == "lower" else max(values)
    return tuple(value == best for value in values)


def _short(digest: Any) -> str:
    return digest[:12] if isinstance(digest, str) else NOTHING


def _protocol(projects: Sequence[Project]) -> str:
    window = projects[0].params.get("evaluate.window")
    return f"eval text, windows of {window}" if len(projects) == 1 and window else ""


def _baselines(projects: Sequence[Project], key: str) -> list[str]:
    return [decimal(project.metrics("evaluate").get(key)) for project in projects]


def _baseline_name(projects: Sequence[Project]) -> str:
    names = {project.metrics("evaluate").get("baseline") for project in projects}
    return f"perplexity of {names.pop()}" if len(names) == 1 and None not in names else "perplexity"


def _network(projects: Sequence[Project]) -> str:
    return network(projects[0]).replace(NOTHING, "") if len(projects) == 1 else ""


def _hardware(projects: Sequence[Project]) -> str:
    return hardware(projects[0]).replace(NOTHING, "") if len(projects) == 1 else ""


def _source(projects: Sequence[Project]) -> str:
    return f"characters, {source(projects[0])}" if len(projects) == 1 else "characters"

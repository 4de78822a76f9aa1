"""The page's sections, what matters most first; one is left out where the files that it needs are missing."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.reporting import charts
from pipeline.reporting.breakdown import buckets, character_differences, characters, mistakes
from pipeline.reporting.chart_parts import Spec
from pipeline.reporting.excerpt import excerpts
from pipeline.reporting.figures import corpus
from pipeline.reporting.project import Project, why_not_comparable
from pipeline.reporting.samples import samples
from pipeline.reporting.settings import changed_files, commands, settings
from pipeline.reporting.validation import expectations
from pipeline.reporting.versions import versions
from pipeline.reporting.words import sign, whole

MOST_CHANGES = 20


@dataclass(frozen=True)
class Section:
    """A section: its template's name (its anchor too), its title, what the template shows, charts by their place."""

    name: str
    title: str
    content: dict[str, Any]
    charts: dict[str, Spec] = field(default_factory=dict)
    excerpts: list[dict[str, Any] | None] = field(default_factory=list)


def sections(projects: Sequence[Project]) -> list[Section]:
    """Return the sections for which there are files."""
    makers = (
        _curves, _samples, _surprise, _position, _buckets, _characters, _mistakes, _corpus, _validation, _params,
        _versions, _again,
    )  # fmt: skip
    return [section for make in makers if (section := make(projects))]


def _curves(projects: Sequence[Project]) -> Section | None:
    drawn = {"curve-epoch": charts.curve(projects, "epoch"), "curve-seconds": charts.curve(projects, "seconds")}
    found = {place: spec for place, spec in drawn.items() if spec}
    tutorial = any(project.rows("plots/tutorial.csv", ("epoch",)) for project in projects) and len(projects) == 1
    return Section("curves", "Learning curves", {"tutorial": tutorial}, found) if found else None


def _samples(projects: Sequence[Project]) -> Section | None:
    found = [samples(project) for project in projects]
    return Section("samples", "What it writes", {"columns": found}) if any(found) else None


def _surprise(projects: Sequence[Project]) -> Section | None:
    found = excerpts(projects)
    if not any(found):
        return None
    data = [excerpt.data() if excerpt else None for excerpt in found]
    same = len({excerpt.text for excerpt in found if excerpt}) == 1
    return Section("surprise", "Where the eval text surprises it", {"columns": found, "same": same}, excerpts=data)


def _position(projects: Sequence[Project]) -> Section | None:
    spec = charts.position(projects)
    return Section("position", "Perplexity by position", {}, {"by-position": spec}) if spec else None


def _buckets(projects: Sequence[Project]) -> Section | None:
    lines = buckets(projects)
    return Section("buckets", "Perplexity by bucket", {"lines": lines}) if lines else None


def _characters(projects: Sequence[Project]) -> Section | None:
    if len(projects) > 1:
        lines = character_differences(projects, ranked=not why_not_comparable(projects))
        spec = charts.character_differences(projects)
    else:
        lines, spec = characters(projects[0]), charts.characters(projects[0])
    return Section("characters", "Loss by character", {"lines": lines}, {"by-character": spec}) if spec else None


def _mistakes(projects: Sequence[Project]) -> Section | None:
    lines = mistakes(projects)
    return Section("mistakes", "What it takes for what", {"lines": lines}) if lines else None


def _corpus(projects: Sequence[Project]) -> Section | None:
    rows = corpus(projects)
    changes = projects[0].rows("reports/clean.csv", ("count",), ("codepoint", "character", "became"))
    shown = [{**row, "became": "".join(map(sign, row["became"])), "count": whole(row["count"])} for row in changes]
    content = {"figures": rows, "changes": shown[:MOST_CHANGES], "more": max(len(shown) - MOST_CHANGES, 0)}
    return Section("corpus", "The corpus", content) if rows else None


def _validation(projects: Sequence[Project]) -> Section | None:
    found = [expectations(project) for project in projects]
    return Section("validation", "Validation of the data", {"columns": found}) if any(found) else None


def _params(projects: Sequence[Project]) -> Section | None:
    groups = settings(projects, only_different=len(projects) > 1)
    there = any(project.params for project in projects)
    return Section("params", "Params", {"groups": groups}) if there else None


def _versions(_: Sequence[Project]) -> Section | None:
    return Section("versions", "Versions", {"versions": versions()})


def _again(projects: Sequence[Project]) -> Section | None:
    columns = [(commands(project), changed_files(project)) for project in projects]
    return Section("again", "How to make it again", {"columns": columns})

"""Builds the report, one HTML page about one or several models, which needs no server and no network."""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import altair as alt
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.reporting import charts
from pipeline.reporting.charts import NUM_COLOURS, Spec
from pipeline.reporting.plots_page import vega
from pipeline.reporting.project import (
    Project,
    changed_files,
    commands,
    settings,
    versions,
    visible,
    whole,
    why_not_comparable,
)
from pipeline.reporting.tables import buckets, character_differences, characters, corpus, headline, mistakes
from pipeline.reporting.texts import excerpts, samples


@dataclass(frozen=True)
class Expectation:
    """An expectation on the data, as text. One that is not met `warns` if it does not stop the pipeline."""

    name: str
    table: str
    passed: bool
    warns: bool
    found: str
    allowed: str
    why: str


def expectations(project: Project) -> list[Expectation]:
    """Return all expectations: first those that failed, then those that warn."""
    content = project.json("reports/validation.json")
    listed = content.get("expectations") if isinstance(content, dict) else None
    if not isinstance(listed, list):
        return []
    found = [
        Expectation(
            name=str(one.get("name", "")).replace("_", " "),
            table=str(one.get("table", "")),
            passed=one.get("passed") is True,
            warns=one.get("passed") is not True and one.get("stops") is False,
            found=str(one.get("found", "")),
            allowed=str(one.get("allowed", "")),
            why=str(one.get("why", "")),
        )
        for one in listed
        if isinstance(one, dict)
    ]
    return sorted(found, key=lambda one: (one.passed, one.warns))


MAX_CHANGES = 20


@dataclass(frozen=True)
class Section:
    """A section: the name of its template and anchor, its title, the template's content, and charts by element id."""

    name: str
    title: str
    content: dict[str, Any]
    charts: dict[str, Spec] = field(default_factory=dict)
    excerpts: list[dict[str, Any] | None] = field(default_factory=list)


def sections(projects: Sequence[Project]) -> list[Section]:
    """Return the sections whose files exist."""
    makers = (
        _curves,
        _samples,
        _surprise,
        _position,
        _buckets,
        _characters,
        _mistakes,
        _corpus,
        _validation,
        _params,
        _versions,
        _again,
    )
    return [section for make in makers if (section := make(projects))]


def _curves(projects: Sequence[Project]) -> Section | None:
    drawn = {"curve-epoch": charts.curve(projects, "epoch"), "curve-seconds": charts.curve(projects, "seconds")}
    found = {place: spec for place, spec in drawn.items() if spec}
    tutorial = any(project.read_csv("plots/tutorial.csv", ("epoch",)) for project in projects) and len(projects) == 1
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
    return Section("mistakes", "Mistakes", {"lines": lines}) if lines else None


def _corpus(projects: Sequence[Project]) -> Section | None:
    rows = corpus(projects)
    changes = projects[0].read_csv("reports/clean.csv", ("count",), ("codepoint", "character", "became"))
    shown = [{**row, "became": "".join(map(visible, row["became"])), "count": whole(row["count"])} for row in changes]
    content = {"figures": rows, "changes": shown[:MAX_CHANGES], "more": max(len(shown) - MAX_CHANGES, 0)}
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
    return Section("again", "How to rebuild it", {"columns": columns})


PAGE = Path(__file__).parent / "page"


def build_report(projects: Sequence[Project]) -> str:
    """Return the page about one project, or about several side by side, as HTML.

    A section whose files are missing is left out. Text from files is escaped, so it cannot change the page.
    """
    if not projects:
        raise ValueError("a report needs at least one project")
    projects = _with_unique_names(projects)
    shown = sections(projects)
    style, script, vega = _file("style.css"), _file("report.js"), _vega()
    environment = Environment(
        loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page: str = environment.get_template("report.html").render(
        projects=projects,
        alone=len(projects) == 1,
        why_not=why_not_comparable(projects),
        headline=headline(projects),
        sections=shown,
        colours=NUM_COLOURS,
        policy=_policy(styles=[style], scripts=[vega, script]),
        style=Markup(style),  # noqa: S704 - ours
        script=Markup(script),  # noqa: S704 - ours
        vega=Markup(vega),  # noqa: S704 - the library's, without an end tag
        data=_data(projects, shown),
    )
    return page


def _with_unique_names(projects: Sequence[Project]) -> list[Project]:
    """Return the projects, with a number added to names that occur twice."""
    names: list[str] = []
    for project in projects:
        name, number = project.name, 2
        while name in names:
            name, number = f"{project.name} ({number})", number + 1
        names.append(name)
    return [replace(project, name=name) for project, name in zip(projects, names, strict=True)]


def _data(projects: Sequence[Project], shown: Sequence[Section]) -> Markup:
    """Return the data for the page's script, as JSON that cannot end its element."""
    data: dict[str, Any] = {
        "names": [project.name for project in projects],
        "charts": {place: spec for section in shown for place, spec in section.charts.items()},
        "excerpts": [excerpt for section in shown for excerpt in section.excerpts],
    }
    text = json.dumps(data, separators=(",", ":"))
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup(text)  # noqa: S704 - <, > and & are escaped


def _policy(*, styles: Sequence[str], scripts: Sequence[str]) -> str:
    """Return a content security policy: the page loads nothing, and runs only its own scripts."""
    allowed = {
        "default-src": "'none'",
        "script-src": " ".join(map(_digest, scripts)),
        "style-src": " ".join(map(_digest, styles)),
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in allowed.items())


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _file(name: str) -> str:
    return (PAGE / name).read_text(encoding="utf-8")


@cache
def _vega() -> str:
    """Return Vega, Vega-Lite and vega-embed as one script, in the version that altair targets."""
    major, minor, *_ = alt.SCHEMA_VERSION.removeprefix("v").split(".")
    return vega(f"{major}.{minor}")

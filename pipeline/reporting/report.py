"""The page itself: sections in, one self-contained HTML text out, which asks nothing of any server."""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.reporting.chart_parts import NUM_COLOURS
from pipeline.reporting.figures import headline
from pipeline.reporting.project import Project, why_not_comparable
from pipeline.reporting.sections import Section, sections

PAGE = Path(__file__).parent / "page"


def build_report(projects: Sequence[Project]) -> str:
    """Return the page about one project, or about several side by side, as HTML.

    A section whose files are missing is left out. Whatever the files hold is text on the page and nothing else.
    """
    if not projects:
        raise ValueError("a report is about one project at least")
    projects = _told_apart(projects)
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
        vega=Markup(vega),  # noqa: S704 - the library's, which holds no end of a script
        data=_data(projects, shown),
    )
    return page


def _told_apart(projects: Sequence[Project]) -> list[Project]:
    """Return the projects with names of which no two are the same."""
    names: list[str] = []
    for project in projects:
        name, number = project.name, 2
        while name in names:
            name, number = f"{project.name} ({number})", number + 1
        names.append(name)
    return [replace(project, name=name) for project, name in zip(projects, names, strict=True)]


def _data(projects: Sequence[Project], shown: Sequence[Section]) -> Markup:
    """Return what the script reads, as JSON that cannot end its own element."""
    data: dict[str, Any] = {
        "names": [project.name for project in projects],
        "charts": {place: spec for section in shown for place, spec in section.charts.items()},
        "excerpts": [excerpt for section in shown for excerpt in section.excerpts],
    }
    text = json.dumps(data, separators=(",", ":"))
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup(text)  # noqa: S704 - nothing of HTML is left in it


def _policy(*, styles: Sequence[str], scripts: Sequence[str]) -> str:
    """Return a policy under which the page may load nothing and run only what it was written with."""
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
    """Return Vega, Vega-Lite and their embedding as one script, in the version that altair writes for."""
    major, minor, *_ = alt.SCHEMA_VERSION.removeprefix("v").split(".")
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=f"{major}.{minor}")

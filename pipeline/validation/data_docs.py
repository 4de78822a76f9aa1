"""Makes Great Expectations' Data Docs readable without a network: inline styles, no scripts, and an own index page.

Great Expectations writes a page for each table, with its expectations and the rows that break them. Its pages load
styles and scripts from other servers, and its index is empty without them. This module removes these references and
writes a new index.
"""

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

SITE = "charlm"

STYLE = """<style>
:root { color-scheme: light }
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; margin: 0 auto; max-width: 75rem;
  padding: 1.5rem 2rem }
a { color: #0b5cad }
h1 { font-size: 1.5rem; margin: 0 0 .5rem } h4, h5, h6 { font-size: 1.05rem; margin: 0 }
h6, .h6 { font-weight: 600 }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1.5rem }
th, td { border-bottom: 1px solid #ddd; padding: .4rem .8rem .4rem 0; text-align: left; vertical-align: top }
thead th { border-bottom: 2px solid #999; font-weight: 600 }
thead[hidden], .navbar-brand, .card, .collapse, [data-toggle="collapse"], button { display: none }
td table { width: auto; margin-bottom: 0 }
ol.breadcrumb { list-style: none; display: flex; gap: 1rem; padding: 0; margin: 0 0 1rem }
.ge-section { border-top: 1px solid #ccc; padding-top: .8rem; margin-top: .8rem }
.fa-check-circle::before, .passed::before { content: "✓"; color: #18794e; font-weight: 700 }
.fa-times::before, .failed::before { content: "✗"; color: #c62828; font-weight: 700 }
.fa-exclamation-triangle::before, .warned::before { content: "!"; color: #a15c00; font-weight: 700 }
.text-danger { color: #c62828 } .why { color: #555 } table.index { table-layout: fixed } .mark { width: 1rem }
.figure { width: 11rem } .found { width: 22rem }
</style>
"""
# Elements that load something from other servers, or need such scripts.
FOREIGN = re.compile(
    r"<script\b.*?</script>|<style\b.*?</style>|<link\b[^>]*>|<img\b[^>]*>|<footer\b.*?</footer>", re.DOTALL
)
TITLES = re.compile(r"<title>.*?</title>", re.DOTALL)
HEADING = re.compile(r"<h4>.*?</p>", re.DOTALL)


@dataclass(frozen=True)
class Line:
    """A row of the index: the result of one expectation. `mark` is passed, failed or warned; the rest is text."""

    name: str
    table: str
    column: str
    mark: str
    found: str
    expected: str
    why: str


def site(folder: Path) -> dict[str, Any]:
    """Return the settings of a site of Data Docs in `folder`."""
    return {
        "class_name": "SiteBuilder",
        "show_how_to_buttons": False,
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder", "show_cta_footer": False},
        "store_backend": {
            "class_name": "TupleFilesystemStoreBackend",
            # Great Expectations would replace $NAME by a variable.
            "base_directory": str(folder.resolve()).replace("$", r"\$"),
        },
    }


def make_readable(folder: Path, lines: Sequence[Line], tables: Mapping[str, str]) -> None:
    """Remove from all pages in `folder` what they load from other servers, and write an index of `lines`.

    `tables` maps the name of each table to its description.
    """
    for name, words in tables.items():
        own = [line for line in lines if line.table == name]
        for path in _pages(folder, name):
            path.write_text(_readable(path.read_text(encoding="utf-8"), name, words, own), encoding="utf-8")
    (folder / "index.html").write_text(_index(folder, lines, tables), encoding="utf-8")
    shutil.rmtree(folder / "static", ignore_errors=True)  # images of help pages, which are removed


def _pages(folder: Path, table: str) -> list[Path]:
    """Return the pages about a table: the results first, then the expectations."""
    return [*sorted(folder.glob(f"validations/{table}/**/*.html")), folder / f"expectations/{table}.html"]


def _readable(page: str, table: str, words: str, lines: Sequence[Line]) -> str:
    failed = [line.name for line in lines if line.mark != "passed"]
    result = f"not as expected: {', '.join(failed)}" if failed else f"all {len(lines)} expectations hold"
    title = escape(f"{table}: {result}")
    for column in {line.column for line in lines}:  # the title of a section is a column's name
        names = ", ".join(line.name for line in lines if line.column == column)
        page = re.sub(rf'(<h5 class="m-0" >\s*){re.escape(column)}(\s*</h5>)', rf"\g<1>{escape(names)}\g<2>", page)
    page = TITLES.sub("", FOREIGN.sub("", page))
    page = HEADING.sub(f"<h1>{title}</h1><p>{escape(words)}</p>", page, count=1)
    page = page.replace("Data asset: None", f"Table: {escape(table)}")
    return page.replace("<head>", f"<head>{STYLE}<title>{title}</title>", 1)


def _index(folder: Path, lines: Sequence[Line], tables: Mapping[str, str]) -> str:
    failed = [line for line in lines if line.mark == "failed"]
    warned = [line for line in lines if line.mark == "warned"]
    title = f"{len(lines)} expectations: {len(failed)} failed, {len(warned)} warned"
    sections = []
    if failed or warned:
        sections.append(f'<div class="ge-section"><h5>not as expected</h5>{_table([*failed, *warned])}</div>')
    for name, words in tables.items():
        table = _table([line for line in lines if line.table == name])
        found, expected = (escape(path.relative_to(folder).as_posix()) for path in _pages(folder, name)[-2:])
        sections.append(
            f'<div class="ge-section"><h5><a href="{found}">{escape(name)}</a></h5>'
            f'<p>{escape(words)} <a href="{expected}">what is expected</a></p>'
            f"{table}</div>"
        )
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="UTF-8">{STYLE}<title>{title}</title></head>\n'
        f"<body><h1>{title}</h1><p>What the stage validate expects of the data before training, and what it found.</p>"
        f"{''.join(sections)}</body></html>\n"
    )


def _table(lines: Sequence[Line]) -> str:
    head = '<th class="mark"></th><th>expectation</th><th class="figure">expected</th><th class="found">found</th>'
    return f'<table class="index"><thead><tr>{head}</tr></thead><tbody>{"".join(map(_row, lines))}</tbody></table>'


def _row(line: Line) -> str:
    why = "" if line.mark == "passed" else f'<br><span class="why">{escape(line.why)}</span>'
    return (
        f'<tr><td class="mark {line.mark}"></td><td>{escape(line.name)}{why}</td>'
        f'<td class="figure">{escape(line.expected)}</td><td>{escape(line.found)}</td></tr>\n'
    )

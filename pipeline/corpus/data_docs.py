"""Great Expectations' Data Docs: where they are written, and that they can be read without a network.

The pages load their style sheets, icons and the index's table from elsewhere. What is added here says the same in plain
HTML, and gives way where those are there; their logo and newsletter are hidden. Nothing here knows what was expected.
"""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

SITE = "charlm"

# The icons are characters of a font; a rule of the same weight in the font's own sheet, which comes later, wins.
STYLE = """<style>
body { font-family: sans-serif; margin: 1em; line-height: 1.4 }
th, td { text-align: left; vertical-align: top; padding: .2em 1em .2em 0 }
.fa-check-circle::before { content: "✓" } .fa-times::before { content: "✗" }
.fa-exclamation-triangle::before { content: "!" }
.navbar-brand, footer, .collapse:not(.show), .nav-tabs, button { display: none }
</style>
"""


def site(folder: Path) -> dict[str, Any]:
    """Return the settings of a site of Data Docs in `folder`."""
    return {
        "class_name": "SiteBuilder",
        "show_how_to_buttons": False,
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder", "show_cta_footer": False},
        "store_backend": {
            "class_name": "TupleFilesystemStoreBackend",
            "base_directory": str(folder.resolve()),
        },
    }


def make_readable(folder: Path, said: Mapping[str, str]) -> None:
    """Add plain styles to all pages in `folder`, and to the index a list of them.

    `said` has in words what was found in each table, by its name, in the order of the list.
    """
    for path in sorted(folder.rglob("*.html")):
        page = path.read_text(encoding="utf-8").replace("<head>", f"<head>{STYLE}", 1)
        if path == folder / "index.html":
            page = page.replace("</body>", f"{_list(folder, said)}</body>", 1)
        path.write_text(page, encoding="utf-8")


def _list(folder: Path, said: Mapping[str, str]) -> str:
    lines = [
        f'<li><a href="{escape(path.relative_to(folder).as_posix())}">{escape(name)}</a> '
        f'(<a href="{escape(f"expectations/{name}.html")}">what is expected</a>): {escape(words)}</li>'
        for name, words in said.items()
        for path in sorted(folder.glob(f"validations/{name}/**/*.html"))
    ]
    return f'<div style="margin: 1em"><p>What was found:</p><ul>{"".join(lines)}</ul></div>'

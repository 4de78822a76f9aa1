"""Great Expectations' Data Docs: where they are written, and that they can be read without a network.

The pages load their style sheets, icons and the index's table from elsewhere. What is added here says the same in plain
HTML, and gives way where those are there; their logo and newsletter are hidden. Nothing here knows what was expected.
"""

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
.navbar-brand, footer, .collapse:not(.show) { display: none }
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


def make_readable(folder: Path) -> None:
    """Add plain styles to all pages in `folder`, and to the index a list of them."""
    for path in sorted(folder.rglob("*.html")):
        page = path.read_text(encoding="utf-8").replace("<head>", f"<head>{STYLE}", 1)
        if path == folder / "index.html":
            page = page.replace("</body>", f"{_list(folder)}</body>", 1)
        path.write_text(page, encoding="utf-8")


def _list(folder: Path) -> str:
    lines = []
    for path in sorted(folder.glob("validations/**/*.html")):
        name = path.relative_to(folder).parts[1]
        failed = "fa-times text-danger" in path.read_text(encoding="utf-8")
        suite = f"expectations/{name}.html"
        said = "failed" if failed else "all passed"
        lines.append(
            f'<li><a href="{escape(path.relative_to(folder).as_posix())}">{escape(name)}</a>: {said} '
            f'(<a href="{escape(suite)}">what is expected</a>)</li>'
        )
    return f'<div style="margin: 1em"><p>What was found:</p><ul>{"".join(lines)}</ul></div>'

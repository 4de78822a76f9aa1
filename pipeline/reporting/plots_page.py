"""Installs a page for `dvc plots show` that contains Vega, so that plots need no network.

DVC's own page loads Vega from a CDN, and is blank without a network. This page has 1 MB of JavaScript from a
dependency, so it is not in Git: it is built on each machine, and DVC's local settings name it. Without it, DVC uses its
own page. The report contains the same script.
"""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pipeline.core.files import cached, user_cache, whole_file

# In .dvc/, where Git ignores it like config.local, which names it; DVC reads the path relative to that folder.
PAGE = "plots.html"
# DVC's templates are written for Vega-Lite 5.
VEGA_LITE = "5.21"
TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<!-- {mark} -->
{{refresh_tag}}
<title>charlm: plots</title>
<style>
body {{ font: 14px system-ui, sans-serif; margin: 24px; display: flex; flex-wrap: wrap; gap: 32px; }}
</style>
<script>(() => {{{bundle}}})();</script>
</head>
<body>
{{plot_divs}}
</body>
</html>
"""


def install_plots_page(dvc_folder: Path) -> bool:
    """Write the page, and name it in DVC's local settings; returns False if it is installed already.

    If the settings name another page, they are not changed.
    """
    page = dvc_folder / PAGE
    try:
        mark = f"vl-convert-python {version('vl-convert-python')}, charlm 1"
    except PackageNotFoundError:  # the extra `report` is not installed: DVC uses its own page
        return False
    if not dvc_folder.is_dir() or (page.exists() and mark in page.read_text(encoding="utf-8")[:200]):
        return False
    from dvc.config import Config

    bundle = vega(VEGA_LITE)
    with whole_file(page) as part:
        part.write_text(TEMPLATE.format(mark=mark, bundle=bundle.replace("</script", "<\\/script")), encoding="utf-8")
    with Config(str(dvc_folder), validate=True).edit("local") as settings:
        settings.setdefault("plots", {}).setdefault("html_template", PAGE)
    return True


def vega(lite: str) -> str:
    """Return Vega, Vega-Lite (version `lite`, such as "5.14") and vega-embed as one script, which sets `vegaEmbed`.

    vl-convert puts it together in two seconds, so it is cached.
    """

    def make() -> bytes:
        import vl_convert  # 60 MB

        return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=lite).encode()

    name = f"vega-lite-{lite}-vl-convert-{version('vl-convert-python')}.js"
    return cached(user_cache() / "scripts" / name, make).decode()

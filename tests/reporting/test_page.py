"""The report in a real Chromium; skipped where there is none (Debian: apt-get install chromium)."""

import pytest
from reporting.conftest import write_project
from support.browser import NEEDS_CHROMIUM

from pipeline.reporting.project import Project
from pipeline.reporting.report import build_report

pytestmark = [pytest.mark.slow, NEEDS_CHROMIUM]


@pytest.fixture(scope="module")
def paths(project, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    other = Project("</script><b>other", write_project(folder / "other", seed=1))
    for name, projects in (("one", [project]), ("two", [project, other])):
        (folder / f"{name}.html").write_text(build_report(projects), encoding="utf-8")
    return folder


@pytest.fixture(params=["one", "two"])
def page(browser, paths, request):
    context = browser.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    requests, wrong = [], []
    page.on("request", lambda one: requests.append(one.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type in {"error", "warning"} else None)
    page.goto((paths / f"{request.param}.html").as_uri())
    page.locator(".chart svg").nth(3).wait_for()
    yield page
    context.close()
    assert [url for url in requests if not url.startswith("data:")] == [(paths / f"{request.param}.html").as_uri()]
    assert wrong == []


def test_the_charts_are_drawn_and_fit_a_phone(page):
    assert page.locator(".chart svg").count() == 4
    assert page.locator("#curve-epoch path").count() > 4
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_point_of_a_chart_has_a_tooltip(page):
    points = page.locator("#by-position svg .mark-symbol path")
    points.nth(1).scroll_into_view_if_needed()
    page.wait_for_timeout(100)
    box = points.nth(1).bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_timeout(100)
    assert "4.250" in page.locator("#popover").inner_text()


def test_a_character_has_a_popover_with_bits_and_likely_characters(page):
    page.locator(".excerpt").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    popover = page.locator("#popover")
    assert "bits" in popover.inner_text()
    assert popover.locator("li").count() == 4
    page.keyboard.press("Escape")
    assert not popover.is_visible()

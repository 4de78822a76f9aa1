"""A real Chromium, and what the tests of charlm's pages do in it."""

import os
import shutil
import time

import pytest

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
NEEDS_CHROMIUM = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: the page was not tested")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


def write(page, prompt="abc", **settings):
    page.fill("#prompt", prompt)
    for name, value in settings.items():
        page.locator(f"#{name.replace('_', '-')}").evaluate(
            "(field, value) => { field.value = value;"
            " for (const kind of ['input', 'change']) field.dispatchEvent(new Event(kind, {bubbles: true})); }",
            str(value),
        )
    page.click("#write")


def text_of(page, output="#output"):
    return page.locator(output).evaluate("element => element.textContent")


def until_written(page, length, output="#output"):
    until(page, lambda: len(text_of(page, output)) >= length)


def until(page, condition, seconds=20):
    # Playwright's own wait_for_function evaluates a string, which the page's security policy refuses.
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        page.wait_for_timeout(20)

"""The page in a real Chromium; skipped where there is none (Debian: apt-get install chromium)."""

import threading

import pytest
from serving.conftest import running, served
from support.browser import NEEDS_CHROMIUM, text_of, until_written, write
from support.models import random_model

from pipeline.generation.text import Writer
from pipeline.params.sampling import Sampling
from pipeline.serving.completions import Limits

pytestmark = [pytest.mark.slow, NEEDS_CHROMIUM]
HIDDEN = 256
WRITER = Writer(random_model(hidden=HIDDEN))


@pytest.fixture(scope="module")
def address():
    with running(lambda: served(hidden=HIDDEN)) as client:
        yield str(client.base_url)


@pytest.fixture
def page(browser, address):
    context = browser.new_context()
    page = context.new_page()
    asked, wrong = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.goto(address)
    yield page
    context.close()
    assert not [url for url in asked if not url.startswith((address, "data:"))]
    assert not [text for text in wrong if "429" not in text and "ERR_" not in text and "Failed to load" not in text]


def test_a_text_streams_in_and_the_same_seed_replays_it(page):
    write(page, length=120, seed=5, temperature=1, top_k=0, top_p=1)
    until_written(page, 120)
    expected = WRITER.complete("abc", Sampling(max_new_chars=120, seed=5)).completion
    assert text_of(page) == expected
    page.click("#write")
    until_written(page, 120)
    page.wait_for_timeout(200)
    assert text_of(page) == expected


def test_it_stops_and_continues(page):
    # In the page itself: by the time a click from outside arrives, a quick model may have written all of it.
    page.evaluate(
        "() => new MutationObserver((_, watch) => { watch.disconnect(); document.querySelector('#stop').click(); })"
        ".observe(document.querySelector('#output'), {childList: true, subtree: true, characterData: true})"
    )
    write(page, length=2000, seed=5)
    until_written(page, 1)
    page.wait_for_timeout(300)
    stopped = text_of(page)
    assert 0 < len(stopped) < 2000
    page.locator("#length").evaluate(
        "field => { field.value = 20; field.dispatchEvent(new Event('input', {bubbles: true})); }"
    )
    page.click("#continue")
    until_written(page, len(stopped) + 20)
    assert text_of(page).startswith(stopped)


def test_greedy_and_sampled_texts_are_compared(page):
    page.check("#compare")
    write(page, length=60, seed=5, temperature=1, top_k=0, top_p=1)
    until_written(page, 60)
    until_written(page, 60, "#output-greedy")
    assert text_of(page) == WRITER.complete("abc", Sampling(max_new_chars=60, seed=5)).completion
    greedy = WRITER.complete("abc", Sampling(max_new_chars=60, temperature=0)).completion
    assert text_of(page, "#output-greedy") == greedy


def test_alternatives_are_shown_by_the_keyboard(page):
    write(page, length=30, seed=5)
    until_written(page, 30)
    page.wait_for_timeout(200)
    page.locator("#output [tabindex='0']").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#popover").is_visible()
    assert "bits" in page.locator("#popover").inner_text()


def test_a_text_is_scored(page):
    page.get_by_role("tab", name="Score").click()
    page.fill("#score-text", "abc def 😀")
    page.click("#score-run")
    page.wait_for_selector("#score-result:has-text('perplexity')")
    perplexity = WRITER.score("abc def 😀").perplexity
    assert f"{perplexity:.2f}" in page.locator("#score-result").inner_text()


def test_a_link_restores_the_page(page, browser, address):
    write(page, "hgf", length=40, seed=77, temperature=0.5)
    until_written(page, 40)
    text = text_of(page)
    page.wait_for_timeout(500)
    other = browser.new_context().new_page()
    other.goto(page.url if "#" in page.url else f"{address}#")
    assert other.input_value("#prompt") == "hgf"
    other.click("#write")
    until_written(other, 40)
    assert text_of(other) == text
    other.context.close()


def test_a_full_server_is_explained(browser):
    with running(lambda: served(hidden=HIDDEN), limits=Limits(in_flight=1, queue=0)) as client:
        page = browser.new_context().new_page()
        page.goto(str(client.base_url))
        busy = threading.Thread(
            target=client.post, args=["/v1/completions"], kwargs={"json": {"prompt": "a", "max_tokens": 20_000}}
        )
        busy.start()
        page.wait_for_timeout(100)
        write(page, length=20)
        page.wait_for_selector("#error:not([hidden])")
        assert page.locator("#error").inner_text().strip()
        busy.join()
        page.context.close()


def test_an_unreachable_server_is_explained(browser):
    with running(lambda: served(hidden=HIDDEN)) as client:
        page = browser.new_context().new_page()
        page.goto(str(client.base_url))
        page.wait_for_load_state("networkidle")
    write(page, length=20)
    page.wait_for_selector("#error:not([hidden])")
    assert page.locator("#error").inner_text().strip()
    page.context.close()


def test_it_fits_a_phone(browser, address):
    context = browser.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto(address)
    write(page, length=200, seed=1)
    until_written(page, 200)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()

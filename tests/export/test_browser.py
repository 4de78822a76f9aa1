"""An exported page in a real Chromium, opened from disk; skipped where there is none."""

from dataclasses import replace
from itertools import count

import numpy as np
import pytest
from support.browser import NEEDS_CHROMIUM, text_of, until, until_written, write
from support.models import ORDER, random_model, with_ngram

from pipeline.export.page import export_page
from pipeline.export.payload import rounded
from pipeline.generation.text import Writer
from pipeline.model.ngram import NgramModel
from pipeline.params.sampling import Sampling
from pipeline.serving.model_source import Located

pytestmark = [pytest.mark.slow, NEEDS_CHROMIUM]

CLOSE = 1e-3
# Lets a test talk to the page's worker, and notes what the page's policy refuses.
SPY = """
const Real = Worker;
window.answers = [];
window.refused = [];
window.Worker = class extends Real {
  constructor(...given) {
    super(...given);
    window.spied = this;
    this.addEventListener("message", ({ data }) => answers.push(data));
  }
};
document.addEventListener("securitypolicyviolation", (event) => refused.push(event.effectiveDirective));
"""
# The answers to a question, with plain arrays.
ANSWERS = """
number => answers.filter((one) => one.number === number).map((one) => Object.fromEntries(
  Object.entries(one).map(([name, value]) => [name, ArrayBuffer.isView(value) ? [...value] : value])
))
"""
ADD = (
    "() => {{ const one = document.createElement('{tag}'); one.textContent = '{content}'; document.body.append(one); }}"
)
NUMBERS = count(1000)
TEXT = "abc habe\nfag a cab"


def exported(folder, model, *, weights="int8", ngram_bytes=10_000, prompt="abc"):
    """Export `model`; returns the page's address and a writer with the values that the page has."""
    model.save(folder / "model")
    found = Located(folder / "model", "small")
    path = folder / "page.html"
    export_page(found, path, weights=weights, ngram_bytes=ngram_bytes, title="A <small> model", prompt=prompt)
    return path.as_uri(), Writer(rounded(model, weights))


@pytest.fixture
def opened(browser):
    """Return a function that opens an address; afterwards, that nothing was requested or went wrong is checked."""
    contexts, asked, wrong = [], [], []

    def open_page(address, **options):
        contexts.append(browser.new_context(offline=True, **options))
        page = contexts[-1].new_page()
        page.add_init_script(SPY)
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.goto(address)
        until(page, lambda: page.evaluate("() => answers.length > 0"))
        return page

    yield open_page
    refused = [one for context in contexts for page in context.pages for one in page.evaluate("() => refused")]
    for context in contexts:
        context.close()
    assert not wrong
    assert not refused
    assert {url.partition(":")[0] for url in asked} == {"file", "blob"}
    assert len([url for url in asked if url.startswith("file:")]) == len(contexts)


def ask(page, **question):
    """Return the worker's answers to a question."""
    number = next(NUMBERS)
    page.evaluate("question => spied.postMessage(question)", {"number": number} | question)

    def answers():
        return page.evaluate(ANSWERS, number)

    until(page, lambda: any(one.get("reason") or one.get("done") or one.get("error") for one in answers()))
    return answers()


def written(page, prompt, **options):
    """Return the text, the log-probabilities and the reason of its end."""
    symbols = page.evaluate("() => answers[0].symbols")
    found = ask(page, write={"prompt": prompt} | options)
    assert "error" not in found[-1], found[-1]
    ids = [one for answer in found for one in answer["text"]]
    return (
        "".join(symbols[one] for one in ids),
        [one for answer in found for one in answer["logProbs"]],
        found[-1]["reason"],
    )


def of_documents(network):
    """Return `network` with an n-gram model of short documents that begin and end alike."""
    model, dictionary = with_ngram(network), network.dictionary
    random = np.random.default_rng(4)
    texts = ["abc " + "".join(random.choice(list("abcdefgh \n"), 30)) + "fag" for _ in range(40)]
    ids = np.concatenate([[dictionary.begin, *dictionary.encode(text), dictionary.end] for text in texts])
    own = NgramModel.fit(ids, vocab_size=len(dictionary), order=ORDER, begin=dictionary.begin)
    return replace(model, ngram=own.with_weights(model.ngram.trie.weights))


MODELS = {
    "lstm": lambda: random_model("lstm", layers=1, hidden=50),
    "lstm-2": lambda: random_model("lstm", layers=2, hidden=33, unknown=True),
    "gru-2": lambda: random_model("gru", layers=2, hidden=31),
    "rnn": lambda: random_model("rnn", layers=1, hidden=40, scale=0.14),  # a larger scale makes it chaotic
    "ngram": lambda: with_ngram(random_model(hidden=24)),
    # More ids than a byte has, and characters beyond 16 bits.
    "wide": lambda: with_ngram(random_model(characters="abcdefgh \n😀𝄞" + "".join(map(chr, range(0x4E00, 0x4F40))))),
    "documents": lambda: of_documents(random_model(hidden=24, bounded=True, unknown=True, ending=-1.0)),
}


@pytest.mark.parametrize("weights", ["int8", "bf16"])
@pytest.mark.parametrize("kind", MODELS)
def test_the_page_computes_what_the_engine_does(opened, tmp_path, kind, weights):
    address, writer = exported(tmp_path, MODELS[kind](), weights=weights)
    page = opened(address)

    greedy = Sampling(max_new_chars=200, temperature=0)
    expected = writer.complete("abc", greedy)
    text, log_probs, reason = written(page, "abc", temperature=0, max_tokens=200)
    # Up to the first position where two candidates are as good as equal.
    scored = writer.score("abc" + expected.completion, predictions=True).predictions[3:]
    best = np.sort(scored[:, writer.engine._writable], axis=1)
    ties = np.flatnonzero(best[:, -1] - best[:, -2] < CLOSE)
    certain = int(ties[0]) if len(ties) else len(expected.completion)
    assert certain > 20 or not len(ties)
    assert text[:certain] == expected.completion[:certain]
    assert np.abs(np.array(log_probs[:certain]) - expected.log_probs[:certain]).max(initial=0) < CLOSE
    if not len(ties):
        assert (text, reason) == (expected.completion, expected.finish_reason)

    symbols = page.evaluate("() => answers[0].symbols")
    found = ask(page, score=TEXT + "?")
    assert "".join(symbols[one] for answer in found[:-1] for one in answer["text"]) == TEXT
    own = writer.score(TEXT, predictions=True)
    assert np.allclose([one for answer in found[:-1] for one in answer["logProbs"]], own.log_probs, atol=CLOSE)
    likely = np.sort(own.predictions, axis=1)[:, :-6:-1].ravel()
    assert np.allclose([one for answer in found[:-1] for one in answer["rivalLogProbs"]], likely, atol=CLOSE)


OPTIONS = [
    {"temperature": 1.0},
    {"temperature": 0.7, "top_k": 4},
    {"top_p": 0.7},
    {"top_k": 7, "top_p": 0.8, "temperature": 1.5},
    {"min_p": 0.2},
    {"repetition_penalty": 1.3, "repetition_window": 8},
    {"repetition_penalty": 0.8, "repetition_window": 0},
    {"frequency_penalty": 0.3, "presence_penalty": -0.5},
    {"allowed": "abcd \n"},
    {"logit_bias": {"a": -3.0, "b": 2.0}},
    {"ngram_weight": 0.4},
    {"ngram_weight": 0.0, "temperature": 0.5},
    {"stop": ["ba", "\n", "abcdefgh"]},
    {"stop": ["fff"], "max_tokens": 300},
    {"max_tokens": 0},
]


@pytest.mark.parametrize("bounded", [False, True])
def test_every_option_and_seed_gives_the_engines_text(opened, tmp_path, bounded):
    address, writer = exported(
        tmp_path, (of_documents if bounded else with_ngram)(random_model(bounded=bounded, ending=-1.0))
    )
    page = opened(address)
    for options in OPTIONS:
        for seed in (0, 7, 2**31 + 5, 2**53 - 1):
            given = {"max_tokens": 80, "seed": seed} | options
            renamed = {name: value for name, value in given.items() if name != "max_tokens"}
            renamed |= {"logit_bias": tuple(given.get("logit_bias", {}).items()), "stop": tuple(given.get("stop", ()))}
            expected = writer.complete("cab", Sampling(max_new_chars=given["max_tokens"], **renamed))
            text, log_probs, reason = written(page, "cab", **given)
            assert (text, reason) == (expected.completion, expected.finish_reason), given
            assert np.allclose(log_probs, expected.log_probs, atol=CLOSE)


def test_an_option_out_of_range_is_refused(opened, tmp_path):
    page = opened(exported(tmp_path, random_model())[0])
    write(page, temperature=101)
    until(page, lambda: page.is_visible("#error"))
    assert page.inner_text("#error-text") == "This was refused. Temperature: found 101, allowed is 0 to 100."
    assert ask(page, write={"allowed": "xyz"})[0]["error"] == "allowed: the model knows none of the characters"


def test_the_policy_refuses_requests_and_eval(tmp_path, browser):
    page = browser.new_context().new_page()
    page.goto(exported(tmp_path, random_model())[0])
    # By a timer, since what Playwright runs itself may use eval.
    for attempt, directive in {
        "() => fetch('https://example.invalid/').catch(() => 0)": "connect-src",
        "() => { new Image().src = 'https://example.invalid/a.png'; }": "img-src",
        ADD.format(tag="script", content="window.ran = 1"): "script-src-elem",
        "() => { setTimeout(() => window.eval('1')); }": "script-src",
        ADD.format(tag="style", content="a {}"): "style-src-elem",
    }.items():
        page.evaluate(
            "() => { window.refused = ''; document.addEventListener('securitypolicyviolation',"
            " (event) => { window.refused = event.effectiveDirective; }, { once: true }); }"
        )
        page.evaluate(attempt)
        until(page, lambda: page.evaluate("() => refused"))
        assert page.evaluate("() => refused") == directive
    assert page.evaluate("() => window.ran") is None
    page.context.close()


@pytest.fixture
def page(opened, tmp_path):
    address, writer = exported(tmp_path, with_ngram(random_model(hidden=64)))
    page = opened(address)
    page.writer = writer
    return page


def test_greedy_and_sampled_texts_are_written(page):
    assert page.title() == page.inner_text("h1") == "A <small> model"
    assert page.input_value("#prompt") == "abc"
    page.check("#compare")
    write(page, length=60, seed=5, temperature=1, ngram_weight=0.5)
    until_written(page, 60)
    until_written(page, 60, "#output-greedy")
    options = {"max_new_chars": 60, "seed": 5, "ngram_weight": 0.5}
    assert text_of(page) == page.writer.complete("abc", Sampling(**options)).completion
    assert text_of(page, "#output-greedy") == page.writer.complete("abc", Sampling(temperature=0, **options)).completion
    assert page.locator("#output span[class^='b']").count() > 50  # shaded


def test_it_stops_and_continues(page):
    page.evaluate(
        "() => new MutationObserver((_, watch) => { watch.disconnect(); document.querySelector('#stop').click(); })"
        ".observe(document.querySelector('#output'), {childList: true})"
    )
    write(page, length=20_000, seed=5)
    until(page, lambda: page.inner_text("#status").startswith("Stopped"))
    stopped = text_of(page)
    assert 0 < len(stopped) < 20_000
    page.locator("#length").evaluate("field => { field.value = 20; field.dispatchEvent(new Event('input')); }")
    page.click("#continue")
    until_written(page, len(stopped) + 20)
    assert text_of(page).startswith(stopped)


def test_the_keyboard_writes_and_shows_alternatives(page):
    page.focus("#prompt")
    page.keyboard.press("Control+Enter")
    until(page, lambda: page.inner_text("#status").startswith("Done"))
    page.locator("#output [tabindex='0']").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#popover").is_visible()
    assert page.locator("#popover li").count() >= 5
    assert "bits" in page.locator("#popover").inner_text()


def test_a_text_is_scored_and_the_card_is_shown(page):
    page.get_by_role("tab", name="Score").click()
    page.fill("#score-text", "abc def 😀")
    page.click("#score-run")
    page.wait_for_selector("#score-result:has-text('perplexity')")
    assert f"{page.writer.score('abc def 😀').perplexity:.2f}" in page.locator("#score-result").inner_text()
    assert "😀" in page.inner_text("#score-warnings")
    card = page.locator("#card").inner_text()
    assert "LSTM, 2 layers of 64" in card


def test_a_link_restores_the_settings(page, opened):
    write(page, "hgf", length=40, seed=77, temperature=0.5)
    until_written(page, 40)
    page.wait_for_timeout(600)
    other = opened(page.url)
    assert other.input_value("#prompt") == "hgf"
    other.click("#write")
    until_written(other, 40)
    assert text_of(other) == text_of(page)


def test_the_page_stays_responsive_while_it_writes(opened, tmp_path):
    page = opened(exported(tmp_path, random_model(hidden=256))[0])
    page.check("#compare")
    write(page, length=20_000, seed=1)
    until_written(page, 1)
    page.get_by_role("tab", name="Score").click()  # also ends the text
    assert page.is_visible("#score-text")
    # On a busy machine the answer comes in several pieces.
    assert sum(len(one["text"]) for one in ask(page, score="abc") if not one.get("done")) == 3


def test_a_model_without_ngrams_has_no_control_for_them(opened, tmp_path):
    page = opened(exported(tmp_path, with_ngram(random_model()), ngram_bytes=0)[0])
    until(page, lambda: page.locator("#card-figures div").count() > 0)
    assert not page.is_visible("#ngram-weight")


def test_it_fits_a_phone(opened, tmp_path):
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    page = opened(exported(tmp_path, random_model(hidden=64))[0], **phone)
    write(page, length=200, seed=1)
    until_written(page, 200)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390

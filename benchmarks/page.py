"""Measures an exported page in Chromium: characters per second of its worker, next to the engine on one thread.

    python -m benchmarks.page [--rounds 5] [--model FOLDER]

Without --model: random networks of the sizes that have goals, without an n-gram model. The rounds of page and engine
alternate; the best of each is reported. "in its own seconds" divides by the processor time that the browser took, which
other load on the machine affects little. Exits with 1 if a goal is missed.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from playwright.sync_api import Page, sync_playwright
from rich.console import Console
from rich.table import Table

from benchmarks.generation import random_model
from pipeline.export.page import export_page
from pipeline.generation.text import Writer
from pipeline.model.saved import SavedModel
from pipeline.params.sampling import Sampling
from pipeline.serving.model_source import Located
from tests.support.browser import CHROMIUM, FLAGS

# (layers, hidden): characters per second
GOALS = {(1, 384): 3_000, (2, 96): 30_000}
CHARS = 20_000
SPY = """
const Real = Worker;
window.Worker = class extends Real {
  constructor(...given) {
    super(...given);
    window.spied = this;
    window.begun = performance.now();
    this.addEventListener("message", () => { window.loaded ??= performance.now() - begun; });
  }
};
"""
# Writes a text, and returns the seconds that it took. The page itself shows nothing of it.
WRITE = """
([number, max_tokens]) => new Promise((resolve) => {
  const begun = performance.now();
  spied.addEventListener("message", function listen({ data }) {
    if (data.number !== number || !data.reason) return;
    spied.removeEventListener("message", listen);
    resolve((performance.now() - begun) / 1000);
  });
  spied.postMessage({ number, write: { prompt: "The ", max_tokens, seed: 1 } });
})
"""


def processor_seconds() -> float:
    """Return the processor time of the browser's processes."""
    return sum(sum(child.cpu_times()[:2]) for child in psutil.Process().children(recursive=True))


def measure(page: Page, writer: Writer, rounds: int) -> dict[str, float]:
    """Return characters per second of the page, of the page by its processor time, and of the engine."""
    best = {"page": 0.0, "own": 0.0, "engine": 0.0}
    for number in range(1000, 1000 + rounds):
        before = processor_seconds()
        seconds = page.evaluate(WRITE, [number, CHARS])
        own = processor_seconds() - before
        start = time.perf_counter()
        writer.complete("The ", Sampling(max_new_chars=CHARS, seed=1))
        engine = time.perf_counter() - start
        found: dict[str, float] = {"page": seconds, "own": own, "engine": engine}
        best = {name: max(rate, CHARS / found[name]) for name, rate in best.items()}
    return best


def main() -> None:
    """Measure, print a table, and check the goals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", type=Path)
    given = parser.parse_args()
    models: dict[str, tuple[SavedModel, int]] = {
        f"{layers} of {hidden}": (random_model(layers, hidden), goal) for (layers, hidden), goal in GOALS.items()
    }
    if given.model:
        models = {given.model.name: (SavedModel.load(given.model), 0)}
    table = Table("model", "page", "in its own seconds", "engine, 1 thread", "goal", "loaded in", box=None)
    missed = False
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for name, (model, goal) in models.items():
            model.save(Path(folder) / "model")
            path = Path(folder) / "page.html"
            options: dict[str, Any] = {"weights": "int8", "ngram_bytes": 900_000, "title": name, "prompt": "The "}
            export_page(Located(Path(folder) / "model", name), path, **options)
            page = browser.new_page()
            page.add_init_script(SPY)
            page.goto(path.as_uri())
            while not page.evaluate("() => window.loaded"):
                page.wait_for_timeout(50)
            rates = measure(page, Writer(model, threads=1), given.rounds)
            figures = [f"{rates[kind]:,.0f}/s" for kind in ("page", "own", "engine")]
            table.add_row(name, *figures, f"{goal:,}/s" if goal else "", f"{page.evaluate('() => loaded'):,.0f} ms")
            missed |= rates["page"] < goal
            page.close()
        browser.close()
    console = Console(width=120)
    console.print(table)
    console.print(f"{CHARS:,} characters, temperature 1; load of the machine {os.getloadavg()[0]:.1f}")
    sys.exit(missed)


if __name__ == "__main__":
    main()

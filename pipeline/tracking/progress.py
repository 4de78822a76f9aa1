"""Progress bars of stages, for a terminal and for a log: bytes that were read, and how training goes."""

import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from pipeline.training.curve import StepMetrics

# Stages that read for a shorter time write no line to the log.
LONG_SECONDS = 10.0
MB, GB = 10**6, 10**9


@contextmanager
def throughput(name: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Give a progress callback for the bytes that the stage `name` reads, of `total` (None: unknown).

    The callback may be called from any thread. The bar is on standard error.
    """
    done = 0
    terminal = sys.stderr.isatty()
    started = time.monotonic()
    bar = Progress(
        TextColumn(name),
        BarColumn(bar_width=24),
        DownloadColumn(),
        TransferSpeedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True, soft_wrap=True),
        disable=not terminal,
        transient=True,
    )
    with bar:
        task = bar.add_task(name, total=total)

        def advance(count: int) -> None:
            nonlocal done
            done += count
            if terminal:
                bar.advance(task, count)

        yield advance
    seconds = time.monotonic() - started
    if not terminal and seconds > LONG_SECONDS:
        print(_speed_line(name, done, seconds), file=sys.stderr, flush=True)  # noqa: T201  stages print, too


def _speed_line(name: str, done: int, seconds: float) -> str:
    size = f"{done / GB:.1f} GB" if done >= GB else f"{done / MB:.1f} MB"
    return f"{name}: {size} in {seconds:.1f} s, {done / MB / seconds:,.0f} MB/s"


REFRESH_SECONDS = 0.2


def show_training(reports: Iterable[StepMetrics]) -> Iterator[StepMetrics]:
    """Yield `reports` unchanged, and show them: a bar on a terminal, and one line per evaluation."""
    console = Console(stderr=True, soft_wrap=True)
    bar = Progress(
        TextColumn("train"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=not sys.stderr.isatty(),
        transient=True,
    )
    with bar:
        task = bar.add_task("train", total=None, figures="")
        shown = 0.0
        for report in reports:
            if report.eval_perplexity is not None:
                console.print(_line(report), highlight=False)
            if (now := time.monotonic()) - shown >= REFRESH_SECONDS:
                shown = now
                bar.update(task, total=report.steps, completed=report.step, figures=_figures(report))
            yield report


def _figures(report: StepMetrics) -> str:
    loss = math.log(report.train_perplexity)
    speed = report.chars / max(report.seconds, 1e-9)
    return f"loss {loss:.3f}  perplexity {report.train_perplexity:.2f}  {speed:,.0f} chars/s"


def _epoch(epoch: float) -> str:
    """Return the number of epochs done; for a large text that is a small fraction."""
    return f"{epoch:5.2f}" if epoch >= 0.1 else f"{epoch:5.2g}"


def _line(report: StepMetrics) -> str:
    best = "  best so far" if report.is_best else ""
    speed = report.chars / max(report.seconds, 1e-9)
    return (
        f"epoch {_epoch(report.epoch)}  {report.seconds:6.1f} s  train perplexity {report.train_perplexity:6.3f}  "
        f"eval {report.eval_perplexity:6.3f}  {speed:9,.0f} chars/s{best}"
    )

"""How fast text goes through a stage: a bar for a terminal, one line for a log of what took long."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

# What takes less is not worth a line in a log.
LONG_SECONDS = 10.0
MB, GB = 10**6, 10**9


@contextmanager
def throughput(name: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Give a function to be told of the next bytes that the stage `name` is done with, of `total` (None: unknown).

    It may be called from any thread. Writes to standard error.
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
        print(_line(name, done, seconds), file=sys.stderr, flush=True)  # noqa: T201  the rim of the stages


def _line(name: str, done: int, seconds: float) -> str:
    size = f"{done / GB:.1f} GB" if done >= GB else f"{done / MB:.1f} MB"
    return f"{name}: {size} in {seconds:.1f} s, {done / MB / seconds:,.0f} MB/s"

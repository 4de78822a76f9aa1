"""Measures the server under load, and compares it with `mlflow models serve` for the same requests.

    python -m benchmarks.serving [--seconds 5] [--requests 20000] [--workers 1]

Starts `charlm serve` (2x96, random weights) and sends requests on loopback from a second process: wrk or oha if
one is installed, else an async HTTP client, which takes more of the processor than the server's HTTP. All requests of a
steady load have one prompt. "engine" is the time for the same texts in this process, without a server; "bare" is the
rate of FastAPI with an endpoint that returns a constant answer of that size. Exits with 1 if a goal is missed.
"""

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.generation import random_model
from benchmarks.load import LENGTH, OK, PROMPT, Load, flood, generator, in_second_process, percentile, steady, streams
from pipeline.generation.text import Writer
from pipeline.params.sampling import Sampling

ROOT = Path(__file__).parents[1]
SERVER_START_SECONDS = 60
# The goals
OVERHEAD_SECONDS, SHARE_OF_ENGINE, P99_SECONDS, FIRST_SECONDS, GROWTH, TIMES_MLFLOW = 0.003, 0.6, 0.06, 0.15, 5e6, 4
TOO_MANY = 429
STREAMS = 256


@contextmanager
def server(*command: str, ready: str, cwd: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Start a server whose command ends with its port; yields its address once `ready` answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    process = subprocess.Popen(
        [*command, str(port)], cwd=cwd, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    address = f"http://127.0.0.1:{port}"
    end = time.monotonic() + SERVER_START_SECONDS
    try:
        while True:
            try:
                httpx.get(f"{address}{ready}", timeout=5)
                break
            except httpx.TransportError:
                if time.monotonic() > end or process.poll() is not None:
                    raise RuntimeError(f"{' '.join(command)} does not serve; exit code {process.poll()}") from None
                time.sleep(0.1)
        yield address, psutil.Process(process.pid)
    finally:
        if process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.terminate()
        process.terminate()
        process.wait()


def engine_seconds(writer: Writer) -> float:
    """Return the median seconds of one text of LENGTH characters, without a server."""
    seconds = []
    for seed in range(50):
        started = time.perf_counter()
        writer.complete(PROMPT, Sampling(max_new_chars=LENGTH, seed=seed))
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def engine_rate(writer: Writer, texts: int) -> float:
    """Return characters per second of a batch of `texts` texts of LENGTH characters, without a server."""
    samplings = [Sampling(max_new_chars=LENGTH, seed=seed) for seed in range(texts)]
    writer.generate([PROMPT] * texts, samplings)
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < 1:
        writer.generate([PROMPT] * texts, samplings)
        count += 1
    return count * texts * LENGTH / (time.perf_counter() - started)


class Results:
    """The table, and the missed goals."""

    def __init__(self) -> None:
        self.table = Table(title=f"2x96 model, two cores; {LENGTH} characters per request unless stated otherwise")
        for name in ("what", "measured", "goal", "mlflow models serve"):
            self.table.add_column(name)
        self.missed: list[str] = []

    def add(self, what: str, measured: str, goal: str, *, reached: bool, mlflow: str = "") -> None:
        """Add one row."""
        self.table.add_row(what, measured, goal + ("" if reached else "  MISSED"), mlflow)
        if not reached:
            self.missed.append(what)


def main() -> int:
    """Print the table; returns 1 if a goal was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="duration of the steady loads")
    parser.add_argument("--requests", type=int, default=20_000, help="requests between two looks at the memory")
    parser.add_argument("--workers", default="1", help="processes of `charlm serve`")
    options = parser.parse_args()
    results, model = Results(), random_model(2, 96)
    writer = Writer(model)
    writer.warm_up()
    alone, rate = engine_seconds(writer), engine_rate(writer, 32)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model.save(folder / "models/charlm")
        theirs = measure_mlflow(folder, options.seconds)
        constant = (
            sys.executable,
            "-m",
            "uvicorn",
            "benchmarks.load:bare",
            "--factory",
            "--no-access-log",
            "--port",
        )
        with server(*constant, ready="/docs", cwd=folder) as (address, _):
            framework = steady(address, "/v1/completions", 32, options.seconds)
        serve = (sys.executable, "-m", "pipeline.cli.app", "serve", "--workers", options.workers, "--queue", "100")
        with server(*serve, "--port", ready="/readyz", cwd=folder) as (address, process):
            measure(results, address, process, options, writer, {"alone": alone, "rate": rate}, theirs)
    console = Console(width=150)
    console.print(results.table)
    console.print(f"load: {generator() or 'aiohttp'}; bare FastAPI: {framework.rate:,.0f} requests/s with 32 clients")
    console.print(f"goals missed: {', '.join(results.missed)}" if results.missed else "all goals reached")
    return 1 if results.missed else 0


def measure(
    results: Results,
    address: str,
    process: psutil.Process,
    options: argparse.Namespace,
    writer: Writer,
    engine: dict[str, float],
    theirs: dict[int, Load],
) -> None:
    """Measure `charlm serve` at `address`."""
    path = "/v1/completions"
    steady(address, path, 4, 1.0)
    one = steady(address, path, 1, options.seconds)
    results.add(
        "1 client",
        f"p50 {one.p50 * 1e3:.1f} ms (engine {engine['alone'] * 1e3:.1f} ms)",
        "engine + 3 ms",
        reached=one.p50 <= engine["alone"] + OVERHEAD_SECONDS,
        mlflow=f"p50 {theirs[1].p50 * 1e3:.1f} ms",
    )
    many = steady(address, path, 32, options.seconds)
    share, times = LENGTH * many.rate / engine["rate"], many.rate / theirs[32].rate
    results.add(
        "32 clients",
        f"{many.rate:,.0f} requests/s, {share:.0%} of the engine's {engine['rate']:,.0f} characters/s, "
        f"{times:.1f} times mlflow's; p50 {many.p50 * 1e3:.0f} ms, p99 {many.p99 * 1e3:.0f} ms; {many.failed} failed",
        "60%, 4 times, p99 60 ms, none failed",
        reached=share >= SHARE_OF_ENGINE and times >= TIMES_MLFLOW and many.p99 <= P99_SECONDS and not many.failed,
        mlflow=f"{theirs[32].rate:,.0f} requests/s, p99 {theirs[32].p99 * 1e3:.0f} ms",
    )
    before, count = memory(process), 0
    while count < options.requests:
        count += steady(address, path, 32, options.seconds).count
    growth = memory(process) - before
    results.add(f"{count:,} requests", f"memory {growth / 1e6:+.1f} MB", "5 MB", reached=growth <= GROWTH)
    streamed = in_second_process(streams, address, STREAMS, 500)
    first = percentile([seconds for seconds, _ in streamed], 0.99)
    same = all(
        text == writer.complete(PROMPT, Sampling(max_new_chars=500, seed=seed)).completion
        for seed, (_, text) in enumerate(streamed)
    )
    results.add(
        f"{STREAMS} streams of 500 characters",
        f"first character p99 {first * 1e3:.0f} ms; texts {'as alone' if same else 'DIFFERENT'}",
        "150 ms, as alone",
        reached=first <= FIRST_SECONDS and same,
    )
    before = memory(process)
    flooded = [status for status, _ in in_second_process(flood, address, 500)]
    after = memory(process)
    again = steady(address, path, 1, options.seconds).p50
    results.add(
        "500 clients, 2,000 characters, queue of 100",
        f"{flooded.count(OK)} x 200, {flooded.count(TOO_MANY)} x 429, "
        f"{len(flooded) - flooded.count(OK) - flooded.count(TOO_MANY)} "
        f"others; memory {(after - before) / 1e6:+.0f} MB; then p50 {again * 1e3:.1f} ms",
        "200 and 429 only, as quick afterwards",
        reached=set(flooded) <= {OK, TOO_MANY} and again <= 1.5 * one.p50,
    )


def memory(process: psutil.Process) -> int:
    """Return the resident bytes of a server and its workers."""
    return sum(one.memory_info().rss for one in (process, *process.children(recursive=True)))


def measure_mlflow(folder: Path, seconds: float) -> dict[int, Load]:
    """Return what `mlflow models serve` does for each number of clients."""
    import mlflow

    from pipeline.serving.registration import log_model

    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    experiment = mlflow.create_experiment("benchmark", artifact_location=(folder / "mlruns").as_uri())
    with mlflow.start_run(experiment_id=experiment):
        uri = log_model(folder / "models/charlm", card={}, example_prompt=PROMPT).model_uri
    command = ("mlflow", "models", "serve", "-m", uri, "--env-manager", "local", "--port")
    found = {}
    with server(*command, ready="/ping", cwd=folder) as (address, _):
        for clients in (1, 32):
            steady(address, "/invocations", clients, 1.0)
            found[clients] = steady(address, "/invocations", clients, seconds)
            if found[clients].failed:
                raise RuntimeError(f"mlflow models serve failed {found[clients].failed} times")
    return found


if __name__ == "__main__":
    sys.exit(main())

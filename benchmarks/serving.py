"""Measures the server under load, and compares it with `mlflow models serve` for the same requests.

    python -m benchmarks.serving [--seconds 5]

Starts `charlm serve` (2x96, random weights) and sends requests from a second process with an async HTTP client, on
loopback. "engine" is the time for the same texts in this process, without a server. Exits with 1 if a goal is missed.
"""

import argparse
import asyncio
import json
import multiprocessing
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
from typing import Any

import aiohttp
import httpx
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.generation import random_model
from pipeline.generation.text import Writer
from pipeline.params.sampling import Sampling

ROOT = Path(__file__).parents[1]
PROMPT = "The United States are"
LENGTH = 100
SERVER_START_SECONDS = 60
# The goals
OVERHEAD_SECONDS, SHARE_OF_ENGINE, P99_SECONDS, FIRST_SECONDS = 0.003, 0.6, 0.4, 0.3
OK, TOO_MANY = 200, 429


def body(seed: int, length: int = LENGTH, *, stream: bool = False) -> dict[str, Any]:
    """Return a request for `charlm serve`."""
    return {"prompt": PROMPT, "max_tokens": length, "seed": seed, "stream": stream}


def mlflow_body(seed: int) -> dict[str, Any]:
    """Return the same request for `mlflow models serve`."""
    return {"inputs": {"prompt": [PROMPT]}, "params": {"max_new_chars": LENGTH, "seed": seed}}


def _client(address: str, connections: int) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        address, connector=aiohttp.TCPConnector(limit=connections), timeout=aiohttp.ClientTimeout(120)
    )


async def _one(client: aiohttp.ClientSession, path: str, request: dict[str, Any]) -> tuple[int, float]:
    started = time.perf_counter()
    async with client.post(path, json=request) as answer:
        await answer.read()
        return answer.status, time.perf_counter() - started


async def _steady(address: str, path: str, clients: int, seconds: float) -> list[tuple[int, float]]:
    """Let each of `clients` clients send one request after the other for `seconds`; returns statuses and latencies."""
    done: list[tuple[int, float]] = []
    async with _client(address, clients) as client:
        end = time.perf_counter() + seconds

        async def ask(number: int) -> None:
            seed = number
            while time.perf_counter() < end:
                request = mlflow_body(seed) if path == "/invocations" else body(seed)
                done.append(await _one(client, path, request))
                seed += clients

        await asyncio.gather(*(ask(number) for number in range(clients)))
    return done


async def _streams(address: str, count: int, length: int) -> list[tuple[float, str]]:
    """Request `count` streams at once; returns the seconds to each one's first character, and its text."""

    async def read(client: aiohttp.ClientSession, seed: int) -> tuple[float, str]:
        started, first, text = time.perf_counter(), 0.0, ""
        request = body(seed, length, stream=True)
        async with client.post("/v1/completions", json=request) as answer:
            async for line in answer.content:
                if line.startswith(b"data: {"):
                    first = first or time.perf_counter() - started
                    text += json.loads(line[6:])["choices"][0]["text"]
        return first, text

    async with _client(address, count) as client:
        return await asyncio.gather(*(read(client, seed) for seed in range(count)))


async def _flood(address: str, count: int) -> list[tuple[int, float]]:
    """Let `count` clients request one long text each, at once; returns statuses and latencies."""
    async with _client(address, count) as client:
        return await asyncio.gather(*(_one(client, "/v1/completions", body(seed, 2000)) for seed in range(count)))


def in_second_process(work: Any, *arguments: Any) -> Any:
    """Run a coroutine function in its own process and return its result."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_run, (work, arguments))


def _run(work: Any, arguments: tuple[Any, ...]) -> Any:
    return asyncio.run(work(*arguments))


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
                    raise
                time.sleep(0.1)
        yield address, psutil.Process(process.pid)
    finally:
        for child in psutil.Process(process.pid).children(recursive=True):
            child.terminate()
        process.terminate()
        process.wait()


def percentile(values: list[float], share: float) -> float:
    """Return the smallest value that at least `share` of `values` do not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


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
    options = parser.parse_args()
    results, model = Results(), random_model(2, 96)
    writer = Writer(model)
    writer.warm_up()
    alone, rate = engine_seconds(writer), engine_rate(writer, 32)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model.save(folder / "models/charlm")
        theirs = measure_mlflow(folder, options.seconds)
        serve = (sys.executable, "-m", "pipeline.cli.app", "serve", "--in-flight", "64", "--queue", "100", "--port")
        with server(*serve, ready="/readyz", cwd=folder) as (address, process):
            path = "/v1/completions"
            in_second_process(_steady, address, path, 4, 1.0)
            one = [seconds for _, seconds in in_second_process(_steady, address, path, 1, options.seconds)]
            p50 = statistics.median(one)
            results.add(
                "1 client",
                f"p50 {p50 * 1e3:.1f} ms (engine {alone * 1e3:.1f} ms)",
                "engine + 3 ms",
                reached=p50 <= alone + OVERHEAD_SECONDS,
                mlflow=f"p50 {theirs[1][0] * 1e3:.1f} ms",
            )
            many = in_second_process(_steady, address, path, 32, options.seconds)
            chars = LENGTH * len(many) / options.seconds
            p99 = percentile([seconds for _, seconds in many], 0.99)
            well = all(status == OK for status, _ in many)
            results.add(
                "32 clients",
                f"{chars:,.0f} characters/s, {chars / rate:.0%} of the engine's {rate:,.0f}; p99 {p99 * 1e3:.0f} ms; "
                f"{'no error' if well else 'errors'}",
                "60%, p99 400 ms, no error",
                reached=chars >= SHARE_OF_ENGINE * rate and p99 <= P99_SECONDS and well,
                mlflow=f"{LENGTH / theirs[32][1]:,.0f} characters/s, p99 {theirs[32][2] * 1e3:.0f} ms",
            )
            streams = in_second_process(_streams, address, 64, 500)
            first = percentile([seconds for seconds, _ in streams], 0.99)
            same = all(
                text == writer.complete(PROMPT, Sampling(max_new_chars=500, seed=seed)).completion
                for seed, (_, text) in enumerate(streams)
            )
            results.add(
                "64 streams of 500 characters",
                f"first character p99 {first * 1e3:.0f} ms; texts {'as alone' if same else 'DIFFERENT'}",
                "300 ms, as alone",
                reached=first <= FIRST_SECONDS and same,
            )
            before = process.memory_info().rss
            flood = [status for status, _ in in_second_process(_flood, address, 500)]
            after = process.memory_info().rss
            again = statistics.median(
                seconds for _, seconds in in_second_process(_steady, address, path, 1, options.seconds)
            )
            results.add(
                "500 clients, 2,000 characters, queue of 100",
                f"{flood.count(OK)} x 200, {flood.count(TOO_MANY)} x 429, "
                f"{len(flood) - flood.count(OK) - flood.count(TOO_MANY)} "
                f"others; memory {(after - before) / 1e6:+.0f} MB; then p50 {again * 1e3:.1f} ms",
                "200 and 429 only, as quick afterwards",
                reached=set(flood) <= {OK, TOO_MANY} and again <= 1.5 * p50,
            )
    console = Console(width=150)
    console.print(results.table)
    console.print(f"goals missed: {', '.join(results.missed)}" if results.missed else "all goals reached")
    return 1 if results.missed else 0


def measure_mlflow(folder: Path, seconds: float) -> dict[int, tuple[float, float, float]]:
    """Return for each number of clients the median seconds, the seconds per request, and the 99th percentile."""
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
            in_second_process(_steady, address, "/invocations", clients, 1.0)
            answers = in_second_process(_steady, address, "/invocations", clients, seconds)
            if any(status != OK for status, _ in answers):
                raise RuntimeError(f"mlflow models serve answered {next(s for s, _ in answers if s != OK)}")
            done = [taken for _, taken in answers]
            found[clients] = (statistics.median(done), seconds / len(done), percentile(done, 0.99))
    return found


if __name__ == "__main__":
    sys.exit(main())

"""Load for the benchmark of the server: by a compiled load generator if one is installed, else by an HTTP client."""

import asyncio
import json
import math
import multiprocessing
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from typing import Any, NamedTuple

import aiohttp
from fastapi import Body, FastAPI, Response

PROMPT = "The United States are"
LENGTH = 100
OK = 200
# Compiled load generators: the first one that is installed is used.
GENERATORS = ("wrk", "oha")
# What wrk runs: each request has another seed. Times are in microseconds.
WRK_SCRIPT = """
local seed = 0
function request()
  seed = seed + 1
  return wrk.format("POST", nil, {["Content-Type"] = "application/json"}, (string.gsub([[BODY]], "987654", seed)))
end
function done(summary, latency)
  local errors = summary.errors
  local failed = errors.status + errors.connect + errors.read + errors.write + errors.timeout
  print("figures", summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), failed)
end
"""


class Load(NamedTuple):
    """What a steady load has measured: answered requests and the seconds that they took, p50, p99, failures."""

    count: int
    seconds: float
    p50: float
    p99: float
    failed: int

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.count / self.seconds


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


def generator() -> str | None:
    """Return the compiled load generator that is used, if one is installed."""
    return next(filter(shutil.which, GENERATORS), None)


def steady(address: str, path: str, clients: int, seconds: float) -> Load:
    """Let each of `clients` clients send one request after the other for `seconds`."""
    sent = json.dumps(mlflow_body(987_654) if path == "/invocations" else body(987_654))
    posted = ("-m", "POST", "-T", "application/json", "-d", sent, f"{address}{path}")
    common = ("-c", str(clients), "-z", f"{seconds}s")
    match generator():
        case "wrk":
            with tempfile.NamedTemporaryFile("w", suffix=".lua", encoding="utf-8") as script:
                script.write(WRK_SCRIPT.replace("BODY", sent))
                script.flush()
                command = ("wrk", "-t1", f"-c{clients}", f"-d{max(1, round(seconds))}s", "-s", script.name, posted[-1])
                found = re.search(r"^figures\s+(.*)", _output(*command), re.MULTILINE)
            if found is None:
                raise RuntimeError("wrk printed no figures")
            count, microseconds, p50, p99, failed = map(float, found[1].split())
            return Load(int(count), microseconds / 1e6, p50 / 1e6, p99 / 1e6, int(failed))
        case "oha":
            found_json = json.loads(_output("oha", "--no-tui", "--output-format", "json", *common, *posted))
            statuses = found_json["statusCodeDistribution"]
            of_all = found_json["latencyPercentiles"]
            count = sum(statuses.values())
            broken = sum(found_json["errorDistribution"].values())  # connections, without a status
            failed = broken + count - statuses.get("200", 0)
            return Load(count, found_json["summary"]["total"], of_all["p50"], of_all["p99"], failed)
    return _load(in_second_process(_steady, address, path, clients, seconds), seconds)


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _load(done: list[tuple[int, float]], seconds: float) -> Load:
    times = [taken for _, taken in done]
    failed = sum(status != OK for status, _ in done)
    return Load(len(done), seconds, statistics.median(times), percentile(times, 0.99), failed)


async def streams(address: str, count: int, length: int) -> list[tuple[float, str]]:
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


async def flood(address: str, count: int) -> list[tuple[int, float]]:
    """Let `count` clients request one long text each, at once; returns statuses and latencies."""
    async with _client(address, count) as client:
        return await asyncio.gather(*(_one(client, "/v1/completions", body(seed, 2000)) for seed in range(count)))


def in_second_process(work: Any, *arguments: Any) -> Any:
    """Run a coroutine function in its own process and return its result."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_run, (work, arguments))


def _run(work: Any, arguments: tuple[Any, ...]) -> Any:
    return asyncio.run(work(*arguments))


def percentile(values: list[float], share: float) -> float:
    """Return the smallest value that at least `share` of `values` do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def bare() -> FastAPI:
    """Return an application that answers completions requests with one constant."""
    app = FastAPI()
    answer = json.dumps({"id": "cmpl-" + 32 * "0", "choices": [{"text": LENGTH * "x"}], "usage": 280 * "x"})

    @app.post("/v1/completions")
    async def completions(_: dict[str, Any] = Body()) -> Response:  # noqa: B008  FastAPI's way
        return Response(answer, media_type="application/json")

    return app

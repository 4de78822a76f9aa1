"""Measures how long `charlm serve` takes to start, and its memory, in an environment with only what serving needs.

    python -m benchmarks.startup [--model FOLDER] [--rounds 5]

Without --model: a random network of 1x384 without an n-gram model. The rounds alternate with a FastAPI application that
does nothing, in the same environment, which is what no server of this kind can be below. "first start" has an empty
cache, so it compiles the kernels; for `mlflow models serve` the same model is logged, and runs in this environment.
Seconds are those from the command to the first answer to /readyz, and the processor time until then, which other load
on the machine affects little; the best of all rounds. Exits with 1 if a goal is missed.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.generation import random_model
from tests.support.bare import ROOT, bare_charlm, bare_python, bare_site

GOAL_SECONDS, GOAL_MB = 1.5, 250
LONGEST_START = 300
ALONE = """
import uvicorn; from fastapi import FastAPI
app = FastAPI()
@app.get("/readyz")
async def readyz() -> dict[str, str]:
    return {"status": "ready"}
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error")
"""


@dataclass(frozen=True)
class Start:
    """Seconds until a server was ready, its processor seconds until then, and its resident memory then, in bytes."""

    seconds: float
    processor: float
    memory: int


def measured(command: Sequence[str], *, ready: str = "/readyz", cwd: Path, **environment: str) -> Start:
    """Start `command`, to which a port is added, and stop it when it is ready; all of its processes count."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    started = time.perf_counter()
    process = subprocess.Popen(
        [*command, str(port)],
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}{ready}", timeout=LONGEST_START).read()
                break
            except OSError:
                if process.poll() is not None or time.perf_counter() - started > LONGEST_START:
                    raise
                time.sleep(0.01)
        seconds = time.perf_counter() - started
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        times = [one.cpu_times() for one in family]
        memory = sum(one.memory_info().rss for one in family)
        return Start(seconds, sum(one.user + one.system for one in times), memory)
    finally:
        for child in psutil.Process(process.pid).children(recursive=True):
            child.terminate()
        process.terminate()
        process.wait()


def best(starts: Sequence[Start]) -> Start:
    """Return the least of each figure."""
    return Start(
        min(one.seconds for one in starts), min(one.processor for one in starts), min(one.memory for one in starts)
    )


def mlflow_start(model: Path, folder: Path) -> Start:
    """Return the start of `mlflow models serve` for the model in the folder `model`."""
    import mlflow

    from pipeline.serving.registration import log_model

    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    experiment = mlflow.create_experiment("benchmark", artifact_location=(folder / "mlruns").as_uri())
    character = json.loads((model / "dictionary.json").read_text(encoding="utf-8"))["characters"][0]
    with mlflow.start_run(experiment_id=experiment):
        uri = log_model(model, card={}, example_prompt=character).model_uri
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", uri, "--env-manager", "local", "--port"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return measured(command, ready="/ping", cwd=folder, PYTHONPATH=str(ROOT), PATH=path)


def main() -> int:
    """Print the table; returns 1 if a goal was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a model's folder")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "site").mkdir()
        site, model = bare_site(folder / "site"), options.model or folder / "model"
        if options.model is None:
            random_model(1, 384).save(model)
        serve = bare_charlm(site, "serve", "--model", str(model.resolve()), "--port")
        cache = {"CHARLM_CACHE_DIR": str(folder / "cache")}
        first = measured(serve, cwd=folder, **cache)
        warm, alone = [], []
        for _ in range(options.rounds):
            warm.append(measured(serve, cwd=folder, **cache))
            alone.append(measured(bare_python(site, ALONE), cwd=folder))
        rows = {
            "charlm serve": best(warm),
            "charlm serve, first start": first,
            "FastAPI and uvicorn alone": best(alone),
            "mlflow models serve": mlflow_start(model, folder),
        }
    shown = "1x384 without n-grams" if options.model is None else str(options.model)
    table = Table(title=f"{shown}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for column in ("server", "seconds until ready", "processor seconds", "resident memory, MB"):
        table.add_column(column, justify="left" if column == "server" else "right")
    for server, one in rows.items():
        table.add_row(server, f"{one.seconds:.2f}", f"{one.processor:.2f}", f"{one.memory / 1e6:.0f}")
    console = Console(width=120)
    console.print(table)
    # The processor time is what an idle machine would take: nearly all of a start runs on one core.
    took = min(rows["charlm serve"].seconds, rows["charlm serve"].processor)
    missed = took > GOAL_SECONDS or rows["charlm serve"].memory > GOAL_MB * 1e6
    goals = f"{GOAL_SECONDS} s of processor time, {GOAL_MB} MB"
    console.print(f"MISSED: {goals}" if missed else f"reached: {goals}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

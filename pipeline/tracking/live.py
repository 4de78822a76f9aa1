"""A running training's curve in MLflow: sent in batches by a thread, so that a slow or dead server costs nothing.

The thread gives up at the first failure; what it has not sent is sent with the stage's record.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psutil
from mlflow import MlflowClient
from mlflow.entities import Metric

from pipeline.tracking.store import open_store

FLUSH_SECONDS = 5.0
# How long the end of a training may wait for a batch that is on its way.
JOIN_SECONDS = 10.0


class LiveCurve:
    """Sends the points that it is given to one run, and the machine's load beside them."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.sent_to_step = 0
        self._points: list[tuple[int, float, Mapping[str, float]]] = []
        self._beat = 0
        self._ending = threading.Event()
        self._guard = threading.Lock()
        self._thread = threading.Thread(target=self._send_until_end, name="live-curve", daemon=True)
        self._thread.start()

    def add(self, step: int, seconds: float, values: Mapping[str, float]) -> None:
        """Take a point of the curve: names to values at `step`, `seconds` after the start of training."""
        with self._guard:
            self._points.append((step, seconds, values))

    def end(self) -> None:
        """Send what is left and stop; returns soon, whatever the server does."""
        self._ending.set()
        self._thread.join(JOIN_SECONDS)

    def _send_until_end(self) -> None:
        psutil.cpu_percent()  # the first call only starts the measurement
        ending = False
        while not ending:
            ending = self._ending.wait(FLUSH_SECONDS)
            with self._guard:
                points, self._points = self._points, []
            try:
                self._send(points)
            except Exception:  # noqa: BLE001  the training continues whatever the reason
                return

    def _send(self, points: list[tuple[int, float, Mapping[str, float]]]) -> None:
        now = int(time.time() * 1000)
        self._beat += 1
        metrics = [Metric(f"system/{name}", value, now, self._beat) for name, value in _load().items()]
        if points:
            start = now - int(points[-1][1] * 1000)
            metrics += [
                Metric(name, value, start + int(seconds * 1000), step)
                for step, seconds, values in points
                for name, value in values.items()
            ]
        with open_store() as (client, _):
            _log(client, self.run_id, metrics)
        if points:
            self.sent_to_step = points[-1][0]


@contextmanager
def live_curves(run_ids: list[str]) -> Iterator[list[LiveCurve]]:
    """Give a curve for each run, ended when the block ends."""
    curves = [LiveCurve(run_id) for run_id in run_ids]
    try:
        yield curves
    finally:
        for curve in curves:
            curve.end()


def _log(client: MlflowClient, run_id: str, metrics: list[Metric]) -> None:
    for at in range(0, len(metrics), 1000):
        client.log_batch(run_id, metrics=metrics[at : at + 1000])


def _load() -> dict[str, float]:
    # MLflow's own names for these, so that its UI shows them under "System metrics".
    memory = psutil.virtual_memory()
    return {
        "cpu_utilization_percentage": psutil.cpu_percent(),
        "system_memory_usage_megabytes": (memory.total - memory.available) / 1e6,
        "system_memory_usage_percentage": memory.percent,
    }

"""Where work runs: in processes of this machine, or on a Ray cluster. The only module that imports Ray.

Ray is in the extra `charlm[ray]`. RAY_ADDRESS selects a cluster; without it, one is started here for as long as needed.
"""

import math
import multiprocessing
import os
import queue
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from tempfile import TemporaryDirectory
from typing import Any, Protocol
from urllib.parse import urlsplit

from pipeline.core.errors import UserError, one_line
from pipeline.core.reproducible import available_cores

CONNECT_SECONDS = 5.0
ADDRESS = "RAY_ADDRESS"
# How often the workers of a group start again after one of them was lost.
RESTARTS = 3


class WorkerLostError(Exception):
    """The worker's process or machine has ended; what it was doing must be done again."""


class Worker(Protocol):
    """A process with one object, whose method `step` is called again and again."""

    def step(self, argument: Any) -> Any:
        """Call the object's `step`; raises WorkerLostError if the process ends meanwhile."""
        ...

    def kill(self) -> None:
        """End the process at once."""
        ...


class LocalWorker:
    """A process on this machine, with the object that `make` returns; it ends with this process, however that ends.

    Created in the main thread, it does not react to the Ctrl-C that the terminal sends to all processes.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        # A forked process would share locks and CUDA's state; a spawned one starts clean.
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, make), daemon=True)
        in_main = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGINT, signal.SIG_IGN) if in_main else None
        try:
            self._process.start()
        finally:
            if before is not None:
                signal.signal(signal.SIGINT, before)
        other.close()

    def step(self, argument: Any) -> Any:
        """Call the object's `step`; raises WorkerLostError if the process ends meanwhile."""
        try:
            self._connection.send(argument)
            return self._connection.recv()
        except (EOFError, OSError):
            raise WorkerLostError from None

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()


def _serve(connection: Connection, make: Callable[[], Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    served = make()
    with suppress(EOFError, OSError):
        while True:
            connection.send(served.step(connection.recv()))


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


class WorkerPool:
    """Workers that are lent to threads; one that ends is replaced. `start` starts one."""

    def __init__(self, start: Callable[[], Worker]) -> None:
        self._start, self._workers = start, list[Worker]()
        self._idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        self.is_closed = False

    def fill(self, count: int) -> None:
        """Have at least `count` workers; a thread that finds none idle waits."""
        while len(self._workers) < count:
            worker = self._start()
            self._workers.append(worker)
            self._idle.put(worker)

    @contextmanager
    def lend(self) -> Iterator[Worker]:
        """Give a worker for the length of the block; WorkerLostError passes through."""
        worker = self._idle.get()
        try:
            yield worker
        except WorkerLostError:
            if self.is_closed:
                self._idle.put(worker)  # for threads that wait for one: they get the same error
            else:
                self._workers.remove(worker)
                self.fill(len(self._workers) + 1)
            raise
        else:
            self._idle.put(worker)

    def close(self) -> None:
        """End all workers at once; threads that use one get WorkerLostError."""
        self.is_closed = True
        for worker in list(self._workers):
            worker.kill()


class RayCluster:
    """A connection to a Ray cluster, whose workers have `cpus` and `gpus` (fractions are possible) each.

    UserError if Ray is not installed, the cluster does not answer or has another version, or a worker does not fit. Its
    message begins with one of `names`: of the option that asks for Ray, and of those for `cpus` and `gpus`.
    """

    def __init__(
        self, *, cpus: float, gpus: float, names: tuple[str, str, str] = ("--ray", "--cpus", "--gpus")
    ) -> None:
        self.names = names
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray  # 3 s, and only in the extra
        except ModuleNotFoundError as error:
            if error.name != "ray":
                raise
            raise UserError(f"{names[0]}: Ray is not installed; `pip install 'charlm[ray]'` installs it") from None
        self._ray, self._size = ray, {"num_cpus": cpus, "num_gpus": gpus}
        address = os.environ.get(ADDRESS)
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
        if address:
            _check_address(address)
        else:
            options |= {"num_cpus": available_cores(), "include_dashboard": False}
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            ray.init(address=address or "local", **options)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            place = f"{ADDRESS}: {address}" if address else names[0]
            raise UserError(f"{place}: {one_line(error, most=300)}") from None
        finally:
            for number, handler in handlers.items():  # Ray replaces them
                signal.signal(number, handler)
        try:
            self.slots = self._count_slots(cpus, gpus)
        except UserError:
            self.close()
            raise

    def start(self, make: Callable[[], Any]) -> "RayWorker":
        """Start a worker with the object that `make`, a class, returns."""
        return RayWorker(self._ray, self._ray.remote(max_restarts=0, **self._size)(make).remote())

    def run_group(self, work: Callable[[Callable[[Any], None]], None], *, workers: int) -> Iterator[Any]:
        """Run `work(send)` in `workers` processes at the same time, and yield what they send.

        The processes form a group of torch.distributed. If one of them ends or fails, all start again, RESTARTS times
        at most; after that, or if fewer than all fit the cluster, UserError.
        """
        from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
        from ray.train.torch import TorchConfig, TorchTrainer
        from ray.util.queue import Empty, Queue
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        if workers > self.slots:
            raise UserError(f"{self.names[0]}: found {workers}, allowed are at most {self.slots}: no space for more")
        here = NodeAffinitySchedulingStrategy(self._ray.get_runtime_context().get_node_id(), soft=False)
        messages = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
        gpus = self._size["num_gpus"]
        with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            trainer = TorchTrainer(
                lambda: work(messages.put),
                torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
                scaling_config=ScalingConfig(
                    num_workers=workers,
                    use_gpu=bool(gpus),
                    resources_per_worker={"CPU": self._size["num_cpus"], "GPU": gpus},
                ),
                # Ray has no checkpoints here; the folder is only for its own notes.
                run_config=RunConfig(
                    storage_path=folder,
                    failure_config=FailureConfig(max_failures=RESTARTS, controller_failure_limit=RESTARTS),
                ),
            )
            # `fit` waits for the workers. In a process of Ray's it ends with the connection; a thread here would not.
            waiting = self._ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=here)(lambda: trainer.fit().error)
            result = waiting.remote()
            try:
                while True:
                    ended, _ = self._ray.wait([result], timeout=0)
                    try:
                        message = messages.get(timeout=0.5)
                    except Empty:
                        if ended:
                            break
                        continue
                    yield message
                self._ray.get(result)
            except (TrainingFailedError, self._ray.exceptions.RayError) as error:
                # The last line of a worker's traceback says what happened.
                lines = str(getattr(error, "cause", error)).strip().splitlines() or [type(error).__name__]
                raise UserError(f"{self.names[0]}: the workers failed: {one_line(lines[-1], most=300)}") from None

    def close(self) -> None:
        """Disconnect; a cluster that was started here ends."""
        self._ray.shutdown()

    def _count_slots(self, cpus: float, gpus: float) -> int:
        """Return how many workers the nodes have space for; UserError if none."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        slots = 0
        for node in nodes:
            fits = [node.get(kind, 0.0) / size for kind, size in (("CPU", cpus), ("GPU", gpus)) if size]
            slots += math.floor(min(fits, default=1.0) + 1e-9)
        for option, kind, size in ((self.names[1], "CPU", cpus), (self.names[2], "GPU", gpus)):
            most = max((node.get(kind, 0.0) for node in nodes), default=0.0)
            if size > most:
                raise UserError(f"{option}: found {size:g}, allowed is at most {most:g}, the largest node's")
        if not slots:
            raise UserError(f"{self.names[2]}: no node has {cpus:g} CPUs and {gpus:g} GPUs; allowed are fewer")
        return slots


class RayWorker:
    """A Ray actor: a process on some node of the cluster."""

    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray, self._actor = ray, actor

    def step(self, argument: Any) -> Any:
        """Call the object's `step`; raises WorkerLostError if its process or its node ends meanwhile."""
        try:
            return self._ray.get(self._actor.step.remote(argument))
        except self._ray.exceptions.RayActorError:
            raise WorkerLostError from None

    def kill(self) -> None:
        """End the process at once."""
        self._ray.kill(self._actor)


def _check_address(address: str) -> None:
    """Raise a UserError unless something answers at `address`; Ray itself would wait for two minutes."""
    if address in {"auto", "local"}:
        return
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 10001), timeout=CONNECT_SECONDS):
            return
    except (OSError, ValueError) as error:
        raise UserError(
            f"{ADDRESS}: {address} does not answer ({one_line(error)}); "
            "start the cluster, or unset it to start one on this machine"
        ) from None

"""Workers on this machine, the pool that lends them, and what is said where there is no Ray."""

import os
import sys
import threading
import time

import psutil
import pytest

from pipeline.core.errors import UserError
from pipeline.core.where import LocalWorker, RayCluster, WorkerLostError, WorkerPool


class Counter:
    """Runs in a worker."""

    def __init__(self):
        self.count = 0

    def step(self, seconds):
        if seconds < 0:
            os._exit(1)
        time.sleep(seconds)
        self.count += 1
        return self.count, os.getpid()


@pytest.mark.end_to_end
def test_a_worker_retains_its_object_and_ends_when_it_is_killed():
    worker = LocalWorker(Counter)
    (first, pid), (second, same) = worker.step(0), worker.step(0)
    assert (first, second) == (1, 2)
    assert pid == same != os.getpid()
    process = psutil.Process(pid)
    threading.Timer(0.3, worker.kill).start()
    with pytest.raises(WorkerLostError):
        worker.step(60)
    with pytest.raises(WorkerLostError):
        worker.step(0)
    assert process.wait(30) is not None


class FakeWorker:
    killed = 0

    def step(self, argument):
        if argument:
            raise WorkerLostError

    def kill(self):
        FakeWorker.killed += 1


def test_a_pool_lends_each_worker_once_and_replaces_lost_ones():
    pool = WorkerPool(FakeWorker)
    pool.fill(2)
    with pool.lend() as one, pool.lend() as other:
        assert one is not other
    with pytest.raises(WorkerLostError), pool.lend() as lost:
        lost.step(1)
    with pool.lend() as one, pool.lend() as other:
        assert lost not in {one, other}
    pool.close()
    assert FakeWorker.killed == 2


def test_a_closed_pool_does_not_start_workers_and_blocks_nobody():
    pool = WorkerPool(FakeWorker)
    pool.fill(1)
    pool.close()
    for _ in range(2):
        with pytest.raises(WorkerLostError), pool.lend() as worker:
            worker.step(1)


@pytest.mark.parametrize("names", [("--ray", "--cpus", "--gpus"), ("train.workers", "train.threads", "train.device")])
def test_without_ray_one_line_names_the_extra(monkeypatch, names):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        UserError, match=rf"{names[0]}: Ray is not installed; `pip install 'charlm\[ray\]'` installs it"
    ):
        RayCluster(cpus=1, gpus=0, names=names)


@pytest.mark.ray
@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "nosuch.invalid:6379", "127.0.0.1:x"])
def test_an_address_that_does_not_answer_is_one_line(monkeypatch, address):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'charlm[ray]'")
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(
        UserError, match=f"RAY_ADDRESS: {address} does not answer .*; start the cluster, or unset it"
    ) as caught:
        RayCluster(cpus=1, gpus=0)
    assert "\n" not in str(caught.value)

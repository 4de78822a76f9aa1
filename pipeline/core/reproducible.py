"""Keeps results the same on every machine: seeds by purpose, and a map over threads that preserves order."""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Return a seed for `purpose`, a whole number in [0, 2**63).

    It is the first 63 bits of the SHA-256 of "seed/purpose/…". The same (seed, purpose) always gives the same seed, and
    different purposes give unrelated ones, so a new consumer of randomness never changes the others.
    """
    name = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


def sample_seed(seed: int, sample: int) -> int:
    """Return the seed of sample number `sample` (from 0) if one request has several; the first uses `seed` itself."""
    return seed if sample == 0 else derive_seed(seed, "sample", sample)


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def ordered_map(function: Callable[[T], R], items: Iterable[T], *, threads: int, ahead: int = 2) -> Iterator[R]:
    """Yield function(item) for each of `items`, in order, computed by `threads` threads.

    At most `threads + ahead` results are in progress or waiting to be yielded, so memory stays bounded.
    """
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= threads + ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

"""Chooses device, precision and optimizer by params.yaml, and computes the learning rate of each update."""

import ctypes
import math
import os
from contextlib import suppress
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from pipeline.core.errors import UserError
from pipeline.core.reproducible import available_cores
from pipeline.params.training import OptimizerParams, ScheduleParams

# glibc's numbers of M_TRIM_THRESHOLD, M_TOP_PAD and M_MMAP_THRESHOLD (malloc.h); the last has this maximum.
MALLOC_OPTIONS = {-1: 2**31 - 1, -2: 1 << 26, -3: 1 << 25}


def choose_device(name: str) -> torch.device:
    """Return the device for `train.device`; "auto" is the first available of CUDA, MPS and CPU.

    Raises UserError if this machine does not have the device.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, is_available in available.items() if is_available)
    if not available[name]:
        allowed = ", ".join(["auto", *(kind for kind, is_available in available.items() if is_available)])
        raise UserError(f"train.device: found {name}, which this machine lacks; allowed here: {allowed}")
    return torch.device(name)


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """Return float32 or bfloat16 for `train.precision`; "auto" is bfloat16 where the hardware supports it.

    bfloat16 means autocast: weights, optimiser and final evaluation stay float32. Raises UserError if bf16 is requested
    but not supported.
    """
    can = _bf16_runs(device.type)
    if name == "bf16" and not can:
        raise UserError(
            f"train.precision: found bf16, which this machine's {device.type} lacks; allowed are auto, fp32"
        )
    return torch.bfloat16 if name == "bf16" or (name == "auto" and can) else torch.float32


@cache
def _bf16_runs(device_type: str) -> bool:
    if device_type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device_type != "cpu" or not torch.cpu._is_avx512_bf16_supported():  # noqa: SLF001  there is no public one
        return False
    # The processor may have the instructions although this build of PyTorch cannot run an LSTM with them.
    try:
        with torch.autocast(device_type, torch.bfloat16):
            nn.LSTM(8, 8)(torch.zeros(2, 1, 8))[0].sum().backward()
    except RuntimeError:
        return False
    return True


def make_deterministic(*, threads: int) -> None:
    """Fix what could change the order of sums: the number of threads (0: all available cores) and the algorithms."""
    # cuBLAS is deterministic only with a fixed workspace. The variable is read when CUDA starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads or available_cores())
    torch.use_deterministic_algorithms(True)
    # Filling new memory makes reads of uninitialised memory reproducible; nothing here does that, and it costs time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory, which the next update needs again; other C libraries have no such setting.

    Otherwise part of it goes back to the system after every update, and the page faults of getting it back are 4 % of
    the processor time of 1 layer of 384, 14 % of 2 layers of 256 (AMD EPYC with AVX2). Up to 0.1 GB more is held.
    """
    with suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in MALLOC_OPTIONS.items():
            mallopt(option, value)


def make_optimizer(network: nn.Module, params: OptimizerParams) -> Optimizer:
    """Return the optimiser for all weights of `network`; options that are null have PyTorch's defaults."""
    weights = list(network.parameters())
    common: dict[str, Any] = {"lr": params.lr, "weight_decay": params.weight_decay}
    common |= _named("momentum", params.momentum) | _named("eps", params.eps)
    match params.name:
        case "adamw" | "adam":
            betas = (0.9 if params.beta1 is None else params.beta1, 0.999 if params.beta2 is None else params.beta2)
            kind = torch.optim.AdamW if params.name == "adamw" else torch.optim.Adam
            return kind(weights, betas=betas, fused=_can_fuse(weights), **common)
        case "sgd":
            return torch.optim.SGD(weights, **common)
        case "rmsprop":
            return torch.optim.RMSprop(weights, **common, **_named("alpha", params.rho))
        case "adadelta":
            return torch.optim.Adadelta(weights, **common, **_named("rho", params.rho))


def rate_at(step: int, *, steps: int, steps_per_epoch: float, schedule: ScheduleParams) -> float:
    """Return the factor by which the learning rate is multiplied at update `step` (from 0) of `steps`.

    It rises linearly during the warm-up, then follows the schedule.
    """
    warmup = round(schedule.warmup * steps)
    if step < warmup:
        return (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, steps - 1 - warmup))
    match schedule.name:
        case "linear":
            return schedule.final + (1 - schedule.final) * (1 - done)
        case "cosine":
            return schedule.final + (1 - schedule.final) * 0.5 * (1 + math.cos(math.pi * done))
        case "step":
            return float(schedule.gamma ** math.floor(step / steps_per_epoch / schedule.every))
        case "constant":
            return 1.0


def _named(option: str, value: float | None) -> dict[str, Any]:
    return {} if value is None else {option: value}


def _can_fuse(weights: list[nn.Parameter]) -> bool:
    return all(weight.device.type in {"cpu", "cuda"} for weight in weights)

"""Where and in which precision a training runs."""

import os
from functools import cache

import torch
from torch import nn

from pipeline.core.errors import UserError
from pipeline.core.threads import available_cores


def choose_device(name: str) -> torch.device:
    """Return the device that `train.device` asks for; "auto" is CUDA, then MPS, then the CPU."""
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, is_here in here.items() if is_here)
    if not here[name]:
        allowed = ", ".join(["auto", *(kind for kind, is_here in here.items() if is_here)])
        raise UserError(f"train.device: found {name}, which this machine lacks; allowed here: {allowed}")
    return torch.device(name)


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """Return float32 or bfloat16 for `train.precision`; "auto" is bfloat16 where the hardware has it.

    Weights, optimiser and evaluation stay float32; bfloat16 is autocast. UserError if it is asked for and cannot run.
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
    # The instructions alone do not say that this build's LSTM runs with them.
    try:
        with torch.autocast(device_type, torch.bfloat16):
            nn.LSTM(8, 8)(torch.zeros(2, 1, 8))[0].sum().backward()
    except RuntimeError:
        return False
    return True


def make_deterministic(*, threads: int) -> None:
    """Fix what could change sums: threads (0: every core this process may use) and algorithms."""
    # cuBLAS is deterministic only with a fixed workspace; read when CUDA starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads or available_cores())
    torch.use_deterministic_algorithms(True)
    # Filling fresh memory guards against reading it before it is written; nothing here does, and it costs time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]

"""Chooses the device and precision of a training, and makes PyTorch deterministic."""

import os
from functools import cache

import torch
from torch import nn

from pipeline.core.errors import UserError
from pipeline.core.threads import available_cores


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

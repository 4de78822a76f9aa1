"""Builds the optimiser, and computes the learning rate of each update, from params.yaml."""

import math
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from pipeline.params.training import OptimizerParams, ScheduleParams


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

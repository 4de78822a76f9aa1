"""Learning-rate schedules and the options of optimisers."""

import pytest
import torch

from pipeline.params.training import OptimizerParams, ScheduleParams
from pipeline.training.setup import make_optimizer, rate_at


def rates(steps=100, **schedule):
    params = ScheduleParams(**{"warmup": 0.0, **schedule})
    return [rate_at(step, steps=steps, steps_per_epoch=10, schedule=params) for step in range(steps)]


def test_a_constant_schedule_has_a_warm_up():
    found = rates(name="constant", warmup=0.1)
    assert found[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert set(found[10:]) == {1.0}


def test_a_cosine_schedule_ends_at_its_final_share():
    found = rates(name="cosine", final=0.1)
    assert found[0] == 1.0
    assert found[-1] == pytest.approx(0.1)
    assert found == sorted(found, reverse=True)
    assert rates(name="cosine", warmup=0.05)[4] == 1.0


def test_a_linear_schedule_falls_in_a_straight_line():
    assert rates(name="linear", final=0.5)[::33] == pytest.approx([1.0, 5 / 6, 4 / 6, 0.5])


def test_a_step_schedule_falls_after_every_given_number_of_epochs():
    found = rates(name="step", every=2.0, gamma=0.5)
    assert found[19] == 1.0
    assert found[20] == 0.5
    assert found[99] == 0.5**4


def test_options_reach_the_optimiser():
    network = torch.nn.Linear(2, 2)
    adamw = make_optimizer(network, OptimizerParams(name="adamw", lr=0.1, weight_decay=0.2, beta2=0.95, eps=1e-3))
    group = adamw.param_groups[0]
    assert (group["lr"], group["weight_decay"], group["betas"], group["eps"]) == (0.1, 0.2, (0.9, 0.95), 1e-3)
    adadelta = make_optimizer(network, OptimizerParams(name="adadelta", lr=1.0, beta2=None, rho=0.8)).param_groups[0]
    assert (adadelta["rho"], adadelta["eps"]) == (0.8, 1e-6)
    params = OptimizerParams(name="rmsprop", beta2=None, rho=0.8, momentum=0.5)
    rmsprop = make_optimizer(network, params).param_groups[0]
    assert (rmsprop["alpha"], rmsprop["momentum"]) == (0.8, 0.5)

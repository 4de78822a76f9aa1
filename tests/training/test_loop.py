"""The training loop learns, is deterministic, and returns the best weights."""

import ctypes
import itertools
import math
import platform

import numpy as np
import pytest
import torch
from support.models import random_model
from support.trainers import trainer_of

from pipeline.core.errors import UserError
from pipeline.model.network import CharNetwork
from pipeline.params.training import ClipParams
from pipeline.training.loop import clip_gradients, curve_steps, evaluation_steps
from pipeline.training.setup import MALLOC_OPTIONS, choose_device, choose_precision


def test_training_learns_a_short_text_by_heart(split_folder):
    reports = list(trainer_of(split_folder, epochs=12.0).run())
    assert reports[-1].eval_perplexity < 1.35
    assert reports[0].train_perplexity > 15
    assert [report.step for report in reports] == list(range(1, len(reports) + 1))
    assert reports[-1].chars == 12 * (round(2880 * 0.9) - 1)


@pytest.mark.parametrize("cell", ["gru", "rnn"])
def test_other_cells_learn_too(split_folder, cell):
    reports = list(trainer_of(split_folder, cell=cell, epochs=6.0).run())
    assert reports[-1].eval_perplexity < 2.5


@pytest.mark.parametrize(
    "optimizer",
    [
        {"name": "adam", "lr": 0.02},
        {"name": "sgd", "lr": 1.0, "momentum": 0.9},
        {"name": "rmsprop", "lr": 0.01},
        {"name": "adadelta", "lr": 1.0, "rho": 0.9, "eps": 1e-5, "weight_decay": 1e-8},
    ],
)
def test_every_optimiser_learns(split_folder, optimizer):
    loss = "window_sum" if optimizer["name"] == "adadelta" else "mean"
    reports = list(trainer_of(split_folder, optimizer=optimizer, epochs=6.0, loss=loss).run())
    assert reports[-1].eval_perplexity < 9


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_two_trainings_give_the_same_bytes(split_folder, dropout):
    first, second = trainer_of(split_folder, dropout=dropout), trainer_of(split_folder, dropout=dropout)
    list(first.run()), list(second.run())
    assert all(first.best[name].tobytes() == value.tobytes() for name, value in second.best.items())


def test_half_an_epoch_has_half_the_updates(split_folder):
    trainer = trainer_of(split_folder, epochs=0.5)
    assert len(list(trainer.run())) == round(0.5 * trainer.per_epoch)


def test_the_result_is_the_best_weights_instead_of_the_last(split_folder):
    trainer = trainer_of(split_folder, optimizer={"lr": 0.02}, epochs=4.0)
    best, weights = math.inf, None
    for report in trainer.run():
        if report.eval_perplexity is not None:
            assert report.is_best == (report.eval_perplexity < best)
            if report.is_best:
                best, weights = report.eval_perplexity, trainer.network.weights()
    assert trainer.counters.best_perplexity == best
    assert all(np.array_equal(trainer.best[name], value) for name, value in weights.items())


def test_a_training_that_ended_by_patience_does_not_continue_when_it_is_resumed(split_folder):
    trainer = trainer_of(split_folder, patience=1)
    trainer.counters.evaluations_without_gain = 1
    assert list(trainer.run()) == []


def test_an_exploding_loss_is_an_error(split_folder):
    with pytest.raises(UserError, match=r"train: the loss is .* per character at update \d+; lower train.optimizer.lr"):
        list(trainer_of(split_folder, optimizer={"name": "sgd", "lr": 1e30}, clip={"by": "none"}).run())


def test_evaluations_are_evenly_spaced_and_end_with_the_last():
    assert evaluation_steps(25, per_epoch=10, per_epoch_evals=1) == {10, 20, 25}
    assert evaluation_steps(20, per_epoch=10, per_epoch_evals=2) == {5, 10, 15, 20}
    assert evaluation_steps(3, per_epoch=10, per_epoch_evals=100) == {1, 2, 3}


def test_the_curve_has_a_point_at_least_every_2_percent():
    steps = sorted(curve_steps(1000))
    assert (len(steps), steps[0], steps[-1]) == (50, 20, 1000)
    assert curve_steps(3) == {1, 2, 3}
    assert max(later - step for step, later in itertools.pairwise(sorted(curve_steps(60)))) <= 2


def test_curve_points_cover_all_updates(split_folder):
    trainer = trainer_of(split_folder, epochs=8.0, evals_per_epoch=0.5)
    reports = list(trainer.run())
    points = [report for report in reports if report.is_point]
    assert len(points) >= 50
    assert sum(point.eval_perplexity is not None for point in points) == 4
    assert points[-1] is reports[-1]
    # The mean of the points, weighted by their characters, is the figure of the evaluation.
    nll, chars, last = 0.0, 0, 0
    for point in points:
        nll += math.log(point.recent_perplexity) * (point.chars - last)
        chars, last = chars + point.chars - last, point.chars
        if point.eval_perplexity is not None:
            assert math.exp(nll / chars) == pytest.approx(point.train_perplexity)
            nll, chars = 0.0, 0


def test_gradients_are_clipped_by_value_or_norm():
    weight = torch.nn.Parameter(torch.zeros(2))
    for clip, expected in (
        (ClipParams(by="value", at=1.0), [1.0, -1.0]),
        (ClipParams(by="norm", at=2.5), [1.5, -2.0]),
        (ClipParams(by="none"), [3.0, -4.0]),
    ):
        weight.grad = torch.tensor([3.0, -4.0])
        clip_gradients([weight], clip)
        assert weight.grad.tolist() == pytest.approx(expected, rel=1e-5)


def test_an_unavailable_device_is_an_error():
    assert choose_device("cpu").type == "cpu"
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match=r"train.device: found cuda, which this machine lacks; allowed here: auto"):
            choose_device("cuda")


def test_automatic_precision_always_runs():
    dtype = choose_precision("auto", torch.device("cpu"))
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        CharNetwork(random_model().config)(torch.ones(3, 2, dtype=torch.int64))
    assert choose_precision("fp32", torch.device("cpu")) is torch.float32


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these options")
def test_glibc_accepts_the_options_for_keeping_memory():
    mallopt = ctypes.CDLL(None).mallopt
    # It returns 0 for a value that is out of range, and ignores it.
    assert [mallopt(option, value) for option, value in MALLOC_OPTIONS.items()] == [1, 1, 1]

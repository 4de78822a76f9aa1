"""A batch in parts has the gradients of the whole batch, and the same threads give the same bytes.

With a fixed number of parts, neither threads nor workers change a byte.
"""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from support.trainers import trainer_of

from pipeline.dataset.splits import Batch
from pipeline.model.network import CharNetwork, initialise
from pipeline.model.saved import NetworkConfig
from pipeline.params.training import TrainParams
from pipeline.training.parts import FEWEST_WINDOWS, Parts

CPU = torch.device("cpu")
VOCAB = 30


@pytest.fixture
def threads():
    """Sets the number of PyTorch's threads; the test's own number is restored."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def parts_of(threads, *, loss="mean", batch_size=16, dropout=0, parts=0, peers=None):
    torch.set_num_threads(threads)
    config = NetworkConfig(cell="lstm", num_layers=2, num_hidden=24, num_embed=8, dropout=dropout, vocab_size=VOCAB)
    network = CharNetwork(config)
    initialise(network, magnitude=3.0, generator=torch.Generator().manual_seed(1))
    params = TrainParams.model_validate({"batch_size": batch_size, "loss": loss, "parts": parts})
    return Parts(network, params, device=CPU, dtype=torch.float32, peers=peers)


def batch_of(windows, length=12):
    ids = np.random.default_rng(3).integers(1, VOCAB, (windows, length + 1))
    ids[0, length // 2 :] = 0  # padding
    return Batch(inputs=ids[:, :-1], labels=ids[:, 1:])


def gradients(parts, batch):
    with parts.running():
        nll = parts.gradients(batch)
    return nll, [weight.grad for weight in parts.weights]


@pytest.mark.parametrize("windows", [16, 3, 1])
@pytest.mark.parametrize("loss", ["mean", "window_sum"])
def test_the_gradients_are_those_of_the_whole_batch(threads, windows, loss):
    whole, cut = parts_of(1, loss=loss), parts_of(4, loss=loss)
    assert (whole.count, cut.count) == (1, 4)
    (nll, expected), (cut_nll, found) = (gradients(one, batch_of(windows)) for one in (whole, cut))
    assert cut_nll == pytest.approx(nll, rel=1e-5)
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_part_has_enough_windows_and_a_gpu_gets_whole_batches(threads):
    assert parts_of(4, batch_size=2 * FEWEST_WINDOWS + 1).count == 2
    assert parts_of(4, batch_size=1).count == 1


def test_measured_together_or_one_after_the_other_the_figures_agree(threads):
    batches = [batch_of(8), batch_of(5, length=20), batch_of(1)]
    whole, cut = parts_of(1), parts_of(2)
    with cut.running():
        found = cut.measure(batches)
    expected = whole.measure(batches)
    assert (found.chars, found.correct) == (expected.chars, expected.correct)
    assert found.nll == pytest.approx(expected.nll, rel=1e-6)


def same(one, other):
    return all(one[name].tobytes() == value.tobytes() for name, value in other.items())


def test_two_threads_give_the_same_bytes_each_time_and_after_resuming(threads, split_folder):
    first, second = trainer_of(split_folder, dropout=0.3, threads=2), trainer_of(split_folder, dropout=0.3, threads=2)
    assert first.parts.count == 2
    list(first.run())
    run = second.run()
    for _ in range(5):
        next(run)
    third = trainer_of(split_folder, dropout=0.3, threads=2)
    third.restore(copy.deepcopy(second.snapshot()))
    for rest in (run, third.run()):
        list(rest)
    assert same(first.best, second.best)
    assert third.counters.step == first.counters.step
    assert same(first.best, third.best)


def test_pytorchs_threads_are_as_before_once_a_training_ends_or_is_left(threads, split_folder):
    trainer = trainer_of(split_folder, dropout=0.3, threads=2)
    run = trainer.run()
    next(run)
    assert torch.get_num_threads() == 1
    run.close()
    assert torch.get_num_threads() == 2


class Neighbour:
    """Peers in threads of this process; `box` and `barrier` are shared."""

    def __init__(self, rank, box, barrier):
        self.rank, self.count, self.box, self.barrier = rank, len(box), box, barrier

    def collect(self, own):
        self.box[self.rank] = own
        self.barrier.wait(30)
        found = list(self.box)
        self.barrier.wait(30)
        return found

    def join(self, own):
        return torch.cat(self.collect(own))

    def swap(self, rows, *, counts):
        blocks = [one.reshape(self.count, -1, one.shape[1])[self.rank] for one in self.collect(rows) if len(one)]
        assert [len(block) for block in blocks] == [count for count in counts if count]
        return torch.cat(blocks)


def in_workers(count, function):
    """Return what `function(peers)` returns in each of `count` workers."""
    box, barrier = [None] * count, threading.Barrier(count)
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda rank: function(Neighbour(rank, box, barrier)), range(count)))


@pytest.mark.parametrize("windows", [16, 5, 1])
@pytest.mark.parametrize("workers", [1, 2, 3, 4])
def test_the_sum_of_parts_does_not_depend_on_who_computes_them(threads, workers, windows):
    def work(peers=None, number=1):
        parts = parts_of(number, dropout=0.3, parts=4, peers=peers)
        parts.network.train()
        nll = parts.gradients(batch_of(windows), update=7)
        return [torch.tensor(nll).numpy().tobytes(), *(weight.grad.numpy().tobytes() for weight in parts.weights)]

    alone = work()
    assert in_workers(workers, work) == [alone] * workers
    # Another order of the sums has other bytes, so that the test can fail.
    whole = parts_of(1, dropout=0.0, parts=1), parts_of(1, dropout=0.0, parts=4)
    first, second = (gradients(one, batch_of(16))[1] for one in whole)
    assert any(one.numpy().tobytes() != other.numpy().tobytes() for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize("workers", [2, 3])
def test_figures_do_not_depend_on_who_measures_which_batch(threads, workers):
    batches = [batch_of(8), batch_of(5, length=20), batch_of(1), batch_of(3)]
    alone = parts_of(1, parts=4).measure(batches)
    assert in_workers(workers, lambda peers: parts_of(1, parts=4, peers=peers).measure(batches)) == [alone] * workers


def test_with_fixed_parts_threads_change_no_byte_and_dropout_follows_the_update(threads, split_folder):
    one, two = (trainer_of(split_folder, dropout=0.3, threads=number, parts=3) for number in (1, 2))
    for trainer in (one, two):
        list(trainer.run())
    assert (one.parts.count, one.parts.threads, two.parts.threads) == (3, 1, 2)
    assert same(one.best, two.best)
    parts = parts_of(1, dropout=0.3, parts=4)
    losses = [parts.gradients(batch_of(8), update=update) for update in (0, 1, 0)]
    assert losses[0] == losses[2] != losses[1]

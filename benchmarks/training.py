"""Measures characters per second of a training update: ours, plain PyTorch fp32 `nn.LSTM`, and MXNet 1.9.1 Gluon.

    python -m benchmarks.training [--seconds 8] [--rounds 3] [--busy 0]

All train the same network with the same batch, window and random text. They take turns, so that other load on the
machine affects all of them, and the median of the rounds is reported. `--busy 4` runs four programs beside them that
use all the time they get, as on a machine that others share. MXNet runs in its own virtual environment under
.charlm/, which is created if it is missing. The last columns are the share of the measured matrix-product rate
that the update reaches. Finally: how much longer a whole training of the default network takes (with evaluation,
progress, MLflow and checkpoints) than its updates alone.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from pipeline.dataset.arrays import cut_windows
from pipeline.dataset.splits import Split
from pipeline.model.network import CharNetwork
from pipeline.model.saved import NetworkConfig
from pipeline.params.training import TrainParams
from pipeline.tracking.progress import show_training
from pipeline.tracking.publish import live_curves
from pipeline.tracking.store import open_store
from pipeline.training.checkpoint import ResumableTraining, open_checkpoints
from pipeline.training.loop import Trainer
from pipeline.training.setup import choose_precision, keep_freed_memory, make_deterministic

ROOT = Path(__file__).parents[1]
VOCAB, EMBED = 82, 64
# (layers, hidden, batch, window): the goals as multiples of PyTorch's rate with AMX, with avx512_bf16 and without bf16
SIZES = {
    (1, 96, 32, 100): (1.6, 1.8, 1.0),
    (2, 96, 32, 100): (1.8, 1.8, 1.0),
    (1, 384, 32, 32): (3.5, 2.6, 1.0),
    (1, 640, 32, 32): (3.5, 2.4, 1.0),
    (2, 256, 64, 100): (3.0, 1.9, 1.0),
}
OVERHEAD = 0.03
MXNET = ("mxnet==1.9.1", "numpy==1.23.5")


def flops_per_char(layers: int, hidden: int) -> int:
    """Return the multiply-adds of an update per character, times two: forward once, backward twice."""
    recurrent = sum(2 * (4 * hidden) * ((EMBED if layer == 0 else hidden) + hidden) for layer in range(layers))
    return 3 * (recurrent + 2 * hidden * VOCAB)


def matrix_rate(dtype: torch.dtype, size: int = 1024) -> float:
    """Return the rate of a square matrix product in GFLOP/s."""
    a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    a @ b
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < 1:
        a @ b
        count += 1
    return count * 2 * size**3 / (time.perf_counter() - started) / 1e9


def stream_of(ids: np.ndarray, bucket: int) -> Split:
    """Return `ids` as a split with windows of one length."""
    return Split(ids, cut_windows(len(ids), (bucket,)))


def ours(layers: int, hidden: int, batch: int, window: int, seconds: float) -> float:
    """Return characters per second of our trainer: batches, updates, clipping and metrics."""
    make_deterministic(threads=0)
    keep_freed_memory()
    random = np.random.default_rng(0)
    ids = random.integers(1, VOCAB, batch * window * 400 + 1).astype(np.uint8)
    config = NetworkConfig(
        cell="lstm", num_layers=layers, num_hidden=hidden, num_embed=EMBED, dropout=0.0, vocab_size=VOCAB
    )
    device = torch.device("cpu")
    trainer = Trainer(
        CharNetwork(config),
        train=stream_of(ids, window),
        evaluation=stream_of(ids[:1000], window),
        params=TrainParams.model_validate({"epochs": 1000.0, "batch_size": batch, "evals_per_epoch": 0.001}),
        window=window,
        device=device,
        dtype=choose_precision("auto", device),
    )
    results = trainer.run()
    for _ in range(3):
        before = next(results)
    started = time.perf_counter()
    after = before
    while time.perf_counter() - started < seconds:
        after = next(results)
    return (after.chars - before.chars) / (time.perf_counter() - started)


def plain(layers: int, hidden: int, batch: int, window: int, seconds: float) -> float:
    """Return characters per second of the straightforward training loop, in its fastest layout (time first)."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(VOCAB, EMBED)
            self.lstm = nn.LSTM(EMBED, hidden, layers)
            self.output = nn.Linear(hidden, VOCAB)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.output(self.lstm(self.embedding(ids))[0])

    torch.use_deterministic_algorithms(False)
    network = Net()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    criterion = nn.CrossEntropyLoss()
    inputs, labels = (torch.randint(1, VOCAB, (window, batch)) for _ in range(2))

    def update() -> None:
        optimizer.zero_grad()
        criterion(network(inputs).flatten(0, 1), labels.flatten()).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()

    for _ in range(3):
        update()
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        update()
        count += 1
    return count * batch * window / (time.perf_counter() - started)


MXNET_SCRIPT = """
import json, sys, time
import mxnet as mx
from mxnet import autograd, gluon, nd
layers, hidden, batch, window, vocab, embed, seconds = map(float, sys.argv[1:])
layers, hidden, batch, window, vocab, embed = map(int, (layers, hidden, batch, window, vocab, embed))

class Net(gluon.HybridBlock):
    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.embedding = gluon.nn.Embedding(vocab, embed)
            self.lstm = gluon.rnn.LSTM(hidden, layers, input_size=embed)
            self.output = gluon.nn.Dense(vocab, flatten=False, in_units=hidden)
    def hybrid_forward(self, F, ids):
        return self.output(self.lstm(self.embedding(ids)))

net = Net()
net.initialize(mx.init.Xavier())
net.hybridize(static_alloc=True, static_shape=True)
criterion = gluon.loss.SoftmaxCrossEntropyLoss()
criterion.hybridize(static_alloc=True, static_shape=True)
trainer = gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 1e-3})
inputs = nd.random.randint(1, vocab, (window, batch)).astype("float32")
labels = nd.random.randint(1, vocab, (window, batch)).astype("float32")

def update():
    with autograd.record():
        loss = criterion(net(inputs), labels)
    loss.backward()
    trainer.step(batch * window)
    loss.wait_to_read()

for _ in range(3):
    update()
nd.waitall()
started, count = time.perf_counter(), 0
while time.perf_counter() - started < seconds:
    update()
    count += 1
nd.waitall()
print(json.dumps(count * batch * window / (time.perf_counter() - started)))
"""


def mxnet_python() -> Path | None:
    """Return the Python of MXNet's environment, which is created if it is missing; None if that fails."""
    folder = ROOT / ".charlm/mxnet"
    python = folder / "bin/python"
    done = folder / "installed"
    if not done.exists():
        venv.create(folder, with_pip=True, clear=True)
        install = [python, "-m", "pip", "install", "--quiet", *MXNET]
        if subprocess.run(install, check=False).returncode:
            return None
        done.touch()
    return python


def mxnet(python: Path, size: tuple[int, int, int, int], seconds: float) -> float:
    """Return characters per second of MXNet Gluon: fused LSTM, hybridised, static shapes."""
    arguments = [str(value) for value in (*size, VOCAB, EMBED, seconds)]
    done = subprocess.run(
        [python, "-c", MXNET_SCRIPT, *arguments], capture_output=True, text=True, check=True, cwd=ROOT / ".charlm"
    )
    return float(json.loads(done.stdout.splitlines()[-1]))


def overhead(updates: int = 2000) -> tuple[float, float]:
    """Return the seconds of `updates` updates of the default network alone, and of the same in a whole training.

    The whole training evaluates 107,000 characters once per 962,000, as the defaults do on the tutorial's corpus,
    writes checkpoints, shows progress and sends its curve to an MLflow store.
    """
    make_deterministic(threads=0)
    keep_freed_memory()
    random = np.random.default_rng(0)
    ids, eval_ids = (random.integers(1, VOCAB, size).astype(np.uint8) for size in (962_000, 107_000))
    config = NetworkConfig(cell="lstm", num_layers=1, num_hidden=384, num_embed=EMBED, dropout=0.0, vocab_size=VOCAB)
    device = torch.device("cpu")
    params = {"epochs": 100.0, "batch_size": 32, "evals_per_epoch": 1, "optimizer": {"lr": 1e-4}}

    def make() -> Trainer:
        return Trainer(
            CharNetwork(config),
            train=stream_of(ids, 32),
            evaluation=stream_of(eval_ids, 32),
            params=TrainParams.model_validate(params),
            window=100,
            device=device,
            dtype=choose_precision("auto", device),
        )

    def bare(trainer: Trainer) -> float:
        batches = trainer._batches(0)  # noqa: SLF001  the updates alone
        with trainer.parts.running():
            for batch in islice(batches, 50):
                trainer._update(batch, 1e-4)  # noqa: SLF001
            started = time.perf_counter()
            for batch in islice(batches, updates):
                trainer._update(batch, 1e-4)  # noqa: SLF001
            return time.perf_counter() - started

    def whole(trainer: Trainer, folder: Path) -> float:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        os.environ["DVC_ROOT"] = str(folder)
        with open_store() as (client, experiment):
            run_id = client.create_run(experiment).info.run_id
        with open_checkpoints(folder, "key") as checkpoints, live_curves([run_id]) as (curve,):
            training = ResumableTraining(trainer, checkpoints, run_id=run_id)
            started = time.perf_counter()
            for metrics in islice(show_training(training.run(checkpoint_seconds=30)), updates):
                if metrics.eval_perplexity is not None:
                    curve.add(metrics.step, metrics.seconds, {"eval": metrics.eval_perplexity})
            return time.perf_counter() - started

    with tempfile.TemporaryDirectory() as folder:
        rounds = [(bare(make()), whole(make(), Path(folder))) for _ in range(2)]
    return min(one for one, _ in rounds), min(other for _, other in rounds)


def main() -> int:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0, help="duration of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="number of measurements of each; the median is reported")
    parser.add_argument("--busy", type=int, default=0, help="number of busy programs beside the measurements")
    options = parser.parse_args()
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(options.busy)]
    try:
        return compare(options)
    finally:
        for process in busy:
            process.kill()


def compare(options: argparse.Namespace) -> int:
    """Print the table and the costs of everything but the updates; returns 1 if a goal was missed."""
    console = Console(width=140)
    python = mxnet_python()
    dtype = choose_precision("auto", torch.device("cpu"))
    fp32, bf16 = matrix_rate(torch.float32), matrix_rate(torch.bfloat16, 512)
    console.print(f"{torch.get_num_threads()} threads; matrix products: fp32 {fp32:.0f}, bf16 {bf16:.1f} GFLOP/s")
    console.print(f"precision auto: {str(dtype).removeprefix('torch.')}; busy programs: {options.busy}")
    kind = 2 if dtype == torch.float32 else int(not torch.cpu._is_amx_tile_supported())  # noqa: SLF001
    table = Table()
    for name in ("size", "batch", "ours", "PyTorch", "MXNet", "/ PyTorch", "/ MXNet", "GFLOP/s", "of fp32", "of bf16"):
        table.add_column(name, justify="right")
    missed = 0
    for size, goals in SIZES.items():
        layers, hidden, batch, window = size
        rounds: list[tuple[float, float, float]] = []
        for _ in range(options.rounds):
            theirs = mxnet(python, size, options.seconds) if python else float("nan")
            rounds.append((ours(*size, options.seconds), plain(*size, options.seconds), theirs))
        mine, torchs, mxnets = (statistics.median(column) for column in zip(*rounds, strict=True))
        missed += not mine / torchs >= goals[kind]
        rate = mine * flops_per_char(layers, hidden) / 1e9
        table.add_row(
            f"{layers}x{hidden}",
            f"{batch}x{window}",
            f"{mine:,.0f}",
            f"{torchs:,.0f}",
            f"{mxnets:,.0f}",
            f"{mine / torchs:.2f} (goal {goals[kind]})",
            f"{mine / mxnets:.2f}",
            f"{rate:.0f}",
            f"{rate / fp32:.0%}",
            f"{rate / bf16:.0%}",
        )
    console.print(table)
    alone, training = overhead()
    console.print(
        f"the default network's training: {alone:.1f} s of updates, {training:.1f} s with evaluation, progress, MLflow "
        f"and checkpoints: {training / alone - 1:+.1%} (goal: under 3%)"
    )
    missed += training / alone - 1 > OVERHEAD
    console.print(f"goals missed: {missed}" if missed else "all goals reached")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

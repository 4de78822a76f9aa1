"""Measures characters per second of generation: the engine, a loop over `nn.LSTM`, and a hand-written PyTorch step.

    python -m benchmarks.generation [--rounds 3]

All use the same random weights, in one process, and sample from the full distribution. They take turns, so that other
load on the machine affects all of them, and the median of the rounds is reported. The bf16 column is the same engine
with rounded weights. "reading" and "arithmetic" are bounds of fp32 on one thread: the characters per second if all that
it took were to read every weight once, as fast as a loop reads a buffer of their size over and over (so from the cache
that they fit in), or one multiply-add per weight, as fast as PyTorch's matrix products. "of bound" is our rate divided
by the lower one. Exits with 1 if a goal is missed.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numba
import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.training import matrix_rate
from pipeline.dataset.dictionary import Dictionary
from pipeline.generation.text import Writer
from pipeline.model.saved import NetworkConfig, SavedModel
from pipeline.params.sampling import MAX_CHARS, Sampling

ROOT = Path(__file__).parents[1]
CHARACTERS = "".join(chr(code) for code in range(32, 113))
EMBED = 64
# (layers, hidden): the goal for one stream on one thread, as a multiple of the nn.LSTM loop's rate
STREAMS = {(1, 96): 40, (2, 96): 40, (2, 256): 60, (3, 512): 25}
# The same for a batch of 64 texts on two threads
BATCHES = {(1, 96): 2.5, (2, 96): None, (2, 256): None, (3, 512): 0.9}
WIDTH = 64
# The scale of the output weights with which a random network's loss is about 1.2 nats, as a trained one's.
SURENESS = {(1, 96): 27, (1, 384): 90, (2, 96): 50, (2, 256): 110, (3, 512): 75}
OPTIONS_MAY_COST = 0.25
WARM_SECONDS, COLD_SECONDS = 1.5, 10.0
ALL_OPTIONS = {
    "temperature": 0.8,
    "top_k": 40,
    "top_p": 0.95,
    "min_p": 0.01,
    "repetition_penalty": 1.1,
    "allowed": CHARACTERS[:-1],
}


def random_model(layers: int, hidden: int) -> SavedModel:
    """Return a random model whose predictions have about the entropy of a trained one's."""
    dictionary = Dictionary.of(CHARACTERS)
    config = NetworkConfig(
        cell="lstm", num_layers=layers, num_hidden=hidden, num_embed=EMBED, dropout=0.0, vocab_size=len(dictionary)
    )
    random = np.random.default_rng(0)
    weights = {
        name: (
            random.normal(size=shape)
            * (SURENESS[layers, hidden] if name.startswith("output.w") else 1.0)
            / np.sqrt(hidden)
        ).astype("f4")
        for name, shape in config.shapes().items()
    }
    return SavedModel(config=config, weights=weights, dictionary=dictionary)


class Plain:
    """The straightforward loop: embedding, nn.LSTM, linear, softmax, multinomial."""

    def __init__(self, model: SavedModel) -> None:
        config = model.config
        self.embedding = nn.Embedding(config.vocab_size, config.num_embed)
        self.lstm = nn.LSTM(config.num_embed, config.num_hidden, config.num_layers)
        self.output = nn.Linear(config.num_hidden, config.vocab_size)
        with torch.no_grad():
            self.embedding.weight.copy_(torch.from_numpy(model.weights["embedding.weight"]))
            self.output.weight.copy_(torch.from_numpy(model.weights["output.weight"]))
            self.output.bias.copy_(torch.from_numpy(model.weights["output.bias"]))
            for layer in range(config.num_layers):
                for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                    value = model.weights[f"layers.{layer}.{kind}_l0"]
                    getattr(self.lstm, f"{kind}_l{layer}").copy_(torch.from_numpy(value))

    @torch.inference_mode()
    def write(self, steps: int, rows: int) -> None:
        """Write `steps` characters of `rows` texts."""
        token, state = torch.ones(rows, dtype=torch.int64), None
        for _ in range(steps):
            hidden, state = self.lstm(self.embedding(token)[None], state)
            token = torch.multinomial(torch.softmax(self.output(hidden[0]), -1), 1)[:, 0]


class Step:
    """A hand-optimised step: the embedding folded into a table, one matrix-vector product per layer."""

    def __init__(self, model: SavedModel) -> None:
        own = {name: torch.from_numpy(value) for name, value in model.weights.items()}
        layers = range(model.config.num_layers)
        self.table = own["embedding.weight"] @ own["layers.0.weight_ih_l0"].T
        self.weights = [
            torch.cat([own[f"layers.{n}.weight_ih_l0"], own[f"layers.{n}.weight_hh_l0"]], 1)
            if n
            else own["layers.0.weight_hh_l0"]
            for n in layers
        ]
        self.bias = [own[f"layers.{n}.bias_ih_l0"] + own[f"layers.{n}.bias_hh_l0"] for n in layers]
        self.output, self.output_bias = own["output.weight"], own["output.bias"]
        self.hidden = model.config.num_hidden

    @torch.inference_mode()
    def write(self, steps: int, rows: int) -> None:
        """Write `steps` characters of one text."""
        if rows != 1:
            raise ValueError(rows)
        h: list[Tensor] = [torch.zeros(self.hidden) for _ in self.weights]
        c: list[Tensor] = [torch.zeros(self.hidden) for _ in self.weights]
        token = torch.tensor([1])
        for _ in range(steps):
            for n, weight in enumerate(self.weights):
                start = self.bias[n] if n else self.bias[n] + self.table[token[0]]
                gates = torch.addmv(start, weight, torch.cat([h[n - 1], h[n]]) if n else h[n])
                enter, keep, new, show = gates.view(4, -1).unbind()
                c[n] = torch.sigmoid(keep) * c[n] + torch.sigmoid(enter) * torch.tanh(new)
                h[n] = torch.sigmoid(show) * torch.tanh(c[n])
            logits = torch.addmv(self.output_bias, self.output, h[-1])
            token = torch.multinomial(torch.softmax(logits, -1), 1)


def rate(write: Callable[[int], object], characters: float, seconds: float) -> float:
    """Return characters per second of `write(steps)`, measured for `seconds`; a step writes `characters`."""
    steps = 8
    write(steps)
    while True:
        started = time.perf_counter()
        write(steps)
        took = time.perf_counter() - started
        if took >= seconds or steps == MAX_CHARS:
            return steps * characters / took
        steps = min(MAX_CHARS, max(2 * steps, min(64 * steps, int(1.2 * steps * seconds / took))))


def stream(writer: Writer, **options: object) -> Callable[[int], object]:
    """Return a function that writes one text of a given length through `Writer.stream`, character by character."""

    def write(steps: int) -> None:
        for _ in writer.stream("The", Sampling(max_new_chars=steps, **options)):  # type: ignore[arg-type]
            pass

    return write


def batch(writer: Writer) -> Callable[[int], object]:
    """Return a function that completes WIDTH prompts in one batch."""
    prompts = [f"Text {number}" for number in range(WIDTH)]
    samplings = [Sampling(max_new_chars=1, seed=seed) for seed in range(WIDTH)]

    def write(steps: int) -> None:
        writer.generate(prompts, [Sampling(max_new_chars=steps, seed=one.seed) for one in samplings])

    return write


def bytes_per_char(model: SavedModel) -> int:
    """Return the bytes of weights that are read per character: all but the embedding and the first layer's inputs."""
    skipped = ("embedding.weight", "layers.0.weight_ih_l0", "layers.0.bias_ih_l0", "layers.0.bias_hh_l0")
    return sum(value.nbytes for name, value in model.weights.items() if name not in skipped)


@numba.njit
def read_repeatedly(data: npt.NDArray[np.int64], times: int) -> int:
    """Read all of `data`, `times` times. An exclusive or has no order, so the loop is limited by reading only."""
    result = 0
    for number in range(times):
        for i in range(len(data)):
            result ^= data[i] + number
    return result


def bounds(size: int) -> tuple[tuple[Callable[[int], object], float], tuple[Callable[[int], object], float]]:
    """Return two functions, with characters per step, that do no more than `size` bytes of weights require.

    The first reads `size` bytes per character, the second does one multiply-add per weight, in matrix products.
    """
    weights, a, b = np.ones(size // 8, dtype=np.int64), torch.randn(256, 256), torch.randn(256, 256)

    def multiply(times: int) -> None:
        for _ in range(times):
            torch.mm(a, b)

    return (lambda times: read_repeatedly(weights, times), 1), (multiply, 256**3 / (size / 4))


FIRST = """
import sys, time
from pathlib import Path
from pipeline.params.sampling import Sampling
from pipeline.generation.text import Writer
next(Writer.load(Path(sys.argv[1])).stream("The", Sampling()))
"""


def first_character(model: SavedModel) -> tuple[float, float]:
    """Return the seconds from the start of a process to its first character: without cached kernels, and with them.

    The second is the best of 3.
    """
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model")
        seconds = []
        for _ in range(4):
            started = time.perf_counter()
            subprocess.run(
                [sys.executable, "-c", FIRST, Path(folder) / "model"],
                check=True,
                cwd=ROOT,
                env=os.environ | {"CHARLM_CACHE_DIR": f"{folder}/cache"},
            )
            seconds.append(time.perf_counter() - started)
    return seconds[0], min(seconds[1:])


def median_rates(rounds: int, seconds: float, *writes: tuple[Callable[[int], object], float]) -> list[float]:
    """Return the median rate of each of `writes` (function, characters per step), which take turns."""
    rates = [[rate(write, characters, seconds) for write, characters in writes] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*rates, strict=True)]


def streams(rounds: int, seconds: float) -> tuple[Table, list[str]]:
    """Measure one text on one thread; returns the table and the missed goals."""
    torch.set_num_threads(1)
    table = Table(title="One stream, one thread, characters/s")
    columns = ("size", "ours", "bf16", "nn.LSTM loop", "PyTorch step", "/ nn.LSTM", "goal", "/ step")
    for name in (*columns, "reading", "arithmetic", "of bound"):
        table.add_column(name, justify="right")
    missed = []
    for (layers, hidden), goal in STREAMS.items():
        model = random_model(layers, hidden)
        plain, step = Plain(model), Step(model)
        ours, rounded, loop, hand, reading, arithmetic = median_rates(
            rounds,
            seconds,
            (stream(Writer(model, threads=1)), 1),
            (stream(Writer(model, threads=1, precision="bf16")), 1),
            (lambda n, p=plain: p.write(n, 1), 1),
            (lambda n, s=step: s.write(n, 1), 1),
            *bounds(bytes_per_char(model)),
        )
        if ours / loop < goal:
            missed.append(f"{layers}x{hidden} stream")
        table.add_row(
            f"{layers}x{hidden}",
            f"{ours:,.0f}",
            f"{rounded:,.0f}",
            f"{loop:,.0f}",
            f"{hand:,.0f}",
            f"{ours / loop:.1f}",
            f"{goal}",
            f"{ours / hand:.1f}",
            f"{reading:,.0f}",
            f"{arithmetic:,.0f}",
            f"{ours / min(reading, arithmetic):.0%}",
        )
    return table, missed


def batches(rounds: int, seconds: float) -> tuple[Table, list[str]]:
    """Measure a batch of WIDTH texts on two threads; returns the table and the missed goals."""
    torch.set_num_threads(2)
    peak = matrix_rate(torch.float32)
    table = Table(title=f"{WIDTH} texts at once, two threads, characters/s; fp32 matrix products {peak:.0f} GFLOP/s")
    for name in ("size", "ours", "nn.LSTM loop", "/ nn.LSTM", "goal", "of peak"):
        table.add_column(name, justify="right")
    missed = []
    for (layers, hidden), goal in BATCHES.items():
        model = random_model(layers, hidden)
        plain = Plain(model)
        ours, loop = median_rates(
            rounds, seconds, (batch(Writer(model, threads=2)), WIDTH), (lambda n, p=plain: p.write(n, WIDTH), WIDTH)
        )
        if goal and ours / loop < goal:
            missed.append(f"{layers}x{hidden} batch")
        table.add_row(
            f"{layers}x{hidden}",
            f"{ours:,.0f}",
            f"{loop:,.0f}",
            f"{ours / loop:.2f}",
            f"{goal or ''}",
            f"{ours * bytes_per_char(model) / 2 / 1e9 / peak:.0%}",
        )
    return table, missed


def options_cost(rounds: int, seconds: float) -> tuple[Table, list[str]]:
    """Measure all sampling options against none; returns the table and the missed goals."""
    table = Table(title="Cost of the sampling options, one stream, one thread, characters/s")
    for name in ("size", "full distribution", "all options", "cost", "goal"):
        table.add_column(name, justify="right")
    missed = []
    for layers, hidden in STREAMS:
        writer = Writer(random_model(layers, hidden), threads=1)
        bare, full = median_rates(rounds, seconds, (stream(writer), 1), (stream(writer, **ALL_OPTIONS), 1))
        if bare / full - 1 > OPTIONS_MAY_COST:
            missed.append(f"{layers}x{hidden} options")
        table.add_row(f"{layers}x{hidden}", f"{bare:,.0f}", f"{full:,.0f}", f"{bare / full - 1:.0%}", "25%")
    return table, missed


def main() -> int:
    """Print the tables; returns 1 if a goal was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="number of measurements of each; the median is reported")
    parser.add_argument("--seconds", type=float, default=1.0, help="minimal duration of each measurement")
    options = parser.parse_args()
    console = Console(width=130)
    missed = []
    for measure in (streams, batches, options_cost):
        table, own = measure(options.rounds, options.seconds)
        console.print(table)
        missed += own
    cold, warm = first_character(random_model(2, 96))
    if warm > WARM_SECONDS or cold > COLD_SECONDS:
        missed.append("first character")
    console.print(
        f"process start to first character: {warm:.2f} s (goal {WARM_SECONDS}), without cached kernels {cold:.1f} s "
        f"(goal {COLD_SECONDS:.0f})"
    )
    console.print(f"goals missed: {', '.join(missed)}" if missed else "all goals reached")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

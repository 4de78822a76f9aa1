"""One trial: a training on the prepared data and its perplexity, in steps. Runs in a worker's process."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError, one_line
from pipeline.core.files import SPLITS
from pipeline.params.reader import parse_group
from pipeline.params.training import EvaluateParams, ModelParams, TrainParams

# A point of the curve: the columns of plots/train.csv by name.
Point = dict[str, float]
# What a worker needs for a trial: all params by group, and the project's folder (absolute).
Job = tuple[Mapping[str, Any], Path]


@dataclass(frozen=True)
class Progress:
    """What has happened since the last step: the new points of the curve, the last with an eval perplexity.

    At the end, `perplexity` is that of the stage `evaluate` and `seconds` how long it took, or `error` why it failed.
    """

    points: list[Point]
    perplexity: float | None = None
    seconds: float = 0.0
    error: str = ""


def run_trial(params: Mapping[str, Any], folder: Path) -> Iterator[Progress]:
    """Train on the data in the project's `folder`; yields after every evaluation, and once more with the result."""
    from pipeline.dataset.splits import load_split
    from pipeline.evaluation.perplexity import measure, total, window_batches  # torch: 2 s, only in a worker
    from pipeline.model.network import CharNetwork
    from pipeline.training.curve import curve_row
    from pipeline.training.prepare import prepare_training

    started = time.perf_counter()
    evaluate = parse_group("evaluate", params["evaluate"], EvaluateParams)
    model = parse_group("model", params["model"], ModelParams)
    train = parse_group("train", params["train"], TrainParams)
    if not (folder / SPLITS).is_dir():
        raise UserError(f"{folder / SPLITS}: not visible on this machine; run the sweep in a folder that all share")
    prepared = prepare_training(model, train, window=evaluate.window, folder=folder)
    points: list[Point] = []
    for metrics in prepared.trainer.run():
        if metrics.is_point:
            points.append({name: float(value) for name, value in curve_row(metrics).items() if value})
        if metrics.eval_perplexity is not None:
            yield Progress(points)
            points = []
    saved = prepared.model()
    # As the stage `evaluate` does it: on the CPU, with a network that was loaded from the saved weights.
    network = CharNetwork(saved.config)
    network.load_weights(saved.weights)
    split = load_split(folder / SPLITS / "eval")
    batches = window_batches(split, window=evaluate.window, batch_size=evaluate.batch_size)
    yield Progress([], total(measure(network, batches, ngram=saved.ngram)).perplexity, time.perf_counter() - started)


class TrialRunner:
    """What a worker holds: runs one trial after the other, so that torch is loaded once."""

    _steps: Iterator[Progress] = iter(())

    def step(self, job: Job | None) -> Progress:
        """Run the trial to its next evaluation or to its end; `job` starts a new trial, and drops the one before."""
        if job is not None:
            self._steps = run_trial(*job)
        try:
            return next(self._steps)
        except UserError as error:
            return Progress([], error=one_line(error))
        except Exception as error:  # noqa: BLE001  out of memory, say: the next trial may be smaller
            return Progress([], error=f"{type(error).__name__}: {one_line(error, most=300)}")

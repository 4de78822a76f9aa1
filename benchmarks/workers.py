"""Measures updates per second of the project's training, alone and in workers on Ray, for several batch sizes.

    python -m benchmarks.workers [--sizes 384 1024] [--batches 32 128 512] [--workers 2] [--updates 60] [--rounds 2]

It trains on the project's data/split, with one thread for each worker, and compares with as many threads and no Ray.
RAY_ADDRESS selects a cluster. The start of the workers and evaluations are not counted.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

from pipeline.core.reproducible import available_cores
from pipeline.params.training import ModelParams, TrainParams
from pipeline.training.checkpoint import Checkpoints, ResumableTraining
from pipeline.training.prepare import prepare_training
from pipeline.training.workers import train_in_workers


def rate(hidden: int, batch: int, *, workers: int, threads: int, parts: int, updates: int) -> float:
    """Return the updates per second of a training of one layer of `hidden` units."""
    model = ModelParams.model_validate({"num_hidden": hidden, "ngram": {"order": 0}})
    params = TrainParams.model_validate(
        {"batch_size": batch, "workers": workers, "threads": threads, "parts": parts, "epochs": 1000.0}
    )
    folder = Path.cwd()
    epochs = updates / prepare_training(model, params, window=100, folder=folder).trainer.per_epoch
    params = params.model_copy(update={"epochs": epochs, "evals_per_epoch": 1 / epochs})
    prepared = prepare_training(model, params, window=100, folder=folder)
    with tempfile.TemporaryDirectory() as checkpoints:
        training = ResumableTraining(prepared.trainer, Checkpoints(Path(checkpoints)), run_id=None)
        if workers > 1:
            steps = train_in_workers(training, model, params, folder=folder)
        else:
            steps = training.run(checkpoint_seconds=1e9)
        for _ in steps:
            pass
    # The first updates are slower, and the last point includes the evaluation.
    first, last = training.points[len(training.points) // 5], training.points[-2]
    return (last.step - first.step) / (last.seconds - first.seconds)


def main() -> None:
    """Read the options, measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[384, 1024], help="units of the network's layer")
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 128, 512], help="windows in a batch")
    parser.add_argument("--workers", type=int, default=2, help="number of workers, and of threads without Ray")
    parser.add_argument("--updates", type=int, default=60, help="updates of each measurement")
    parser.add_argument("--rounds", type=int, default=2, help="number of measurements of each; the median is reported")
    options = parser.parse_args()
    count = options.workers
    print(f"updates per second, {available_cores()} cores")
    print(f"units  batch  1 thread  {count} threads  {count} workers  workers / threads")
    for hidden in options.sizes:
        for batch in options.batches:
            rounds = [
                [
                    rate(hidden, batch, workers=workers, threads=threads, parts=count, updates=options.updates)
                    for workers, threads in ((1, 1), (1, count), (count, 1))
                ]
                for _ in range(options.rounds)
            ]
            one, threads, workers = (statistics.median(column) for column in zip(*rounds, strict=True))
            print(
                f"{hidden:5}  {batch:5}  {one:8.2f}  {threads:9.2f}  {workers:9.2f}  {workers / threads:17.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()

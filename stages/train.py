"""train: trains the network and saves the weights with the lowest eval perplexity."""

import math
import shutil
import sys
import time
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import torch
import typer

from pipeline.core.files import (
    CURVE,
    MODEL,
    SPLITS,
    START,
    SUBSTRINGS,
    TUTORIAL_CURVE,
    metrics_of,
    sha256_of,
    write_json,
)
from pipeline.model.saved import NGRAM, WEIGHTS
from pipeline.params.reader import read_group
from pipeline.params.training import EvaluateParams, ModelParams, TrainParams
from pipeline.tracking.progress import show_training
from pipeline.tracking.project import state_folder
from pipeline.tracking.records import Point
from pipeline.tracking.stage import StageRun, stage
from pipeline.training.checkpoint import ResumableTraining, open_checkpoints, training_key
from pipeline.training.curve import StepMetrics, curve_row, is_tutorial, write_curve, write_tutorial
from pipeline.training.prepare import prepare_training


def main() -> None:
    with stage("train") as run:
        params, model_params = read_group("train", TrainParams), read_group("model", ModelParams)
        window = read_group("evaluate", EvaluateParams).window
        prepared = prepare_training(model_params, params, window=window, folder=Path())
        trainer = prepared.trainer
        settings = {
            "model": model_params.model_dump(),
            # With fixed parts, neither threads nor workers matter.
            "train": params.model_dump(exclude={"checkpoint_seconds", "start_from", "threads", "workers"})
            | {"parts": params.fixed_parts, "threads": 0 if params.fixed_parts else torch.get_num_threads()},
            "window": window,
            "machine": [trainer.device.type, str(trainer.dtype), torch.__version__],
        }
        with open_checkpoints(state_folder() / "checkpoints", training_key(settings, _inputs())) as checkpoints:
            write_tutorial(TUTORIAL_CURVE, compare=is_tutorial(model_params, params))
            run.start_publishing()
            run.after_interrupt = "; the next dvc repro with the same params resumes from the last checkpoint"
            training = ResumableTraining(trainer, checkpoints, run_id=run.session.run_id)
            for name in checkpoints.damaged:
                run.say(f"warning: checkpoint {name} is damaged and was skipped")
            if training.resumed_from is not None:
                run.say(f"resuming from the checkpoint after update {training.resumed_from} of {trainer.steps}")
            if params.workers > 1:
                from pipeline.training.workers import train_in_workers

                _train(run, training, train_in_workers(training, model_params, params, folder=Path()))
            else:
                _train(run, training, training.run(checkpoint_seconds=params.checkpoint_seconds))
            started = time.perf_counter()
            saved = prepared.model()
            ngram_seconds = time.perf_counter() - started
            saved.save(MODEL)
            # For the leakage check of trainings that will start from this model.
            shutil.copyfile(SUBSTRINGS, MODEL / SUBSTRINGS.name)
            _write_metrics(training, ngram_seconds, len(prepared.train.ids), params)
            checkpoints.remove()


def _train(run: StageRun, training: ResumableTraining, updates: Generator[StepMetrics, None, None]) -> None:
    known = [_point(metrics) for metrics in training.points]
    # After an error, workers end before the lock on the checkpoints is released.
    with closing(updates), run.live_curve(continues=training.first_run, known=known) as send:
        for metrics in show_training(updates):
            if metrics.is_point:
                write_curve(CURVE, training.points)
                send(*_point(metrics))


def _point(metrics: StepMetrics) -> Point:
    row = curve_row(metrics)
    return (
        metrics.step,
        metrics.seconds,
        {name: float(row[name]) for name in row.keys() - {"step", "seconds"} if row[name]},
    )


def _write_metrics(training: ResumableTraining, ngram_seconds: float, num_chars: int, params: TrainParams) -> None:
    """Write the curve and the figures; `ngram_seconds` were spent on the n-gram model of `num_chars` characters."""
    trainer, points, start = training.trainer, training.points, params.start_from
    last, best = points[-1], min(points, key=lambda point: point.eval_perplexity or math.inf)
    write_curve(CURVE, points)
    write_json(
        metrics_of("train"),
        {
            "best_eval_perplexity": best.eval_perplexity,
            "best_step": best.step,
            "steps": last.step,
            "parameters": sum(weight.numel() for weight in trainer.network.parameters()),
            "seconds": round(last.seconds + ngram_seconds, 1),
            "chars_per_second": round(last.chars / last.seconds),
            "threads": torch.get_num_threads(),
            "device": trainer.device.type,
            "precision": str(trainer.dtype).removeprefix("torch."),
            **_ngram_figures(ngram_seconds, num_chars),
            **({"workers": params.workers} if params.workers > 1 else {}),
            **({"start_from": start, "start_sha256": sha256_of(START / WEIGHTS)} if start else {}),
        },
    )


def _ngram_figures(seconds: float, num_chars: int) -> dict[str, float]:
    """Return how long the n-gram model took and how large it is, or nothing if there is none."""
    if not (file := MODEL / NGRAM).exists():
        return {}
    return {"ngram_seconds": round(seconds, 1), "ngram_bytes_per_char": round(file.stat().st_size / num_chars, 1)}


def _inputs() -> list[Path]:
    """Return the files that determine the weights, apart from params: the data, the start model, the imported code."""
    data = [path for folder in (SPLITS, START) for path in sorted(folder.rglob("*")) if path.is_file()]
    code = {
        module.__file__
        for name, module in sys.modules.items()
        if name.startswith("pipeline.") and not name.startswith("pipeline.tracking") and module.__file__
    }
    return [*data, Path(__file__), *(Path(name) for name in sorted(code))]


if __name__ == "__main__":
    typer.run(main)

"""train: trains the network and saves the weights with the lowest eval perplexity."""

import math
import shutil
import sys
from pathlib import Path

import torch
import typer

from pipeline.core.files import sha256_of, write_json
from pipeline.core.layout import CURVE, DICTIONARY, MODEL, SPLITS, START, SUBSTRINGS, TUTORIAL_CURVE, metrics_of
from pipeline.core.seeds import derive_seed
from pipeline.dataset.arrays import count_ids
from pipeline.dataset.dictionary import Dictionary
from pipeline.dataset.splits import load_split
from pipeline.model.network import CharNetwork, initialise, start_at_frequencies
from pipeline.model.saved import WEIGHTS, NetworkConfig, SavedModel
from pipeline.params.reader import read_group
from pipeline.params.training import EvaluateParams, ModelParams, TrainParams
from pipeline.tracking.progress import show_training
from pipeline.tracking.project import state_folder
from pipeline.tracking.stage import Point, StageRun, stage
from pipeline.training.checkpoint import ResumableTraining, open_checkpoints, training_key
from pipeline.training.curve import StepMetrics, curve_row, is_tutorial, write_curve, write_tutorial
from pipeline.training.device import choose_device, choose_precision, make_deterministic
from pipeline.training.loop import Trainer
from pipeline.training.start_model import adapted_weights, load_start_model


def main() -> None:
    with stage("train") as run:
        params, model_params = read_group("train", TrainParams), read_group("model", ModelParams)
        window = read_group("evaluate", EvaluateParams).window
        device = choose_device(params.device)
        dtype = choose_precision(params.precision, device)
        dictionary = Dictionary.load(DICTIONARY)
        splits = {name: load_split(SPLITS / name) for name in ("train", "eval")}
        make_deterministic(threads=params.threads)
        config = NetworkConfig.of(model_params, vocab_size=len(dictionary))
        network = CharNetwork(config)
        generator = torch.Generator().manual_seed(derive_seed(params.seed, "weights"))
        initialise(network, magnitude=model_params.init_magnitude, generator=generator)
        counts = count_ids(splits["train"].ids, len(dictionary))
        if model_params.init_output == "unigram":
            start_at_frequencies(network, counts, generator=generator)
        if params.start_from is not None:
            base = load_start_model(START, model_params, address=params.start_from, root=Path.cwd())
            network.load_weights(adapted_weights(base, network.weights(), dictionary, counts))
        trainer = Trainer(
            network,
            train=splits["train"],
            evaluation=splits["eval"],
            params=params,
            window=window,
            device=device,
            dtype=dtype,
        )
        settings = {
            "model": model_params.model_dump(),
            "train": params.model_dump(exclude={"checkpoint_seconds", "start_from"}),
            "window": window,
            "machine": [device.type, str(dtype), torch.get_num_threads(), torch.__version__],
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
            _train(run, training, params)
            _write_outputs(training, config, dictionary, start_from=params.start_from)
            checkpoints.remove()


def _train(run: StageRun, training: ResumableTraining, params: TrainParams) -> None:
    known = [_point(metrics) for metrics in training.points]
    with run.live_curve(continues=training.first_run, known=known) as send:
        for metrics in show_training(training.run(checkpoint_seconds=params.checkpoint_seconds)):
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


def _write_outputs(
    training: ResumableTraining, config: NetworkConfig, dictionary: Dictionary, *, start_from: str | None
) -> None:
    trainer, points = training.trainer, training.points
    last, best = points[-1], min(points, key=lambda point: point.eval_perplexity or math.inf)
    write_curve(CURVE, points)
    write_json(
        metrics_of("train"),
        {
            "best_eval_perplexity": best.eval_perplexity,
            "best_step": best.step,
            "steps": last.step,
            "parameters": sum(weight.numel() for weight in trainer.network.parameters()),
            "seconds": round(last.seconds, 1),
            "chars_per_second": round(last.chars / last.seconds),
            "threads": torch.get_num_threads(),
            "device": trainer.device.type,
            "precision": str(trainer.dtype).removeprefix("torch."),
            **({"start_from": start_from, "start_sha256": sha256_of(START / WEIGHTS)} if start_from else {}),
        },
    )
    weights = trainer.best or trainer.network.weights()
    SavedModel(config=config, weights=weights, dictionary=dictionary).save(MODEL)
    # For the leakage check of trainings that will start from this model.
    shutil.copyfile(SUBSTRINGS, MODEL / SUBSTRINGS.name)


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

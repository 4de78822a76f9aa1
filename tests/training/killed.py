"""A training that kills itself: python killed.py SPLIT CHECKPOINTS OUTPUT KILL_AT, run by test_resume.py.

With KILL_AT 0 it runs to its end and writes the best weights and the curve's steps to OUTPUT.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch
from safetensors.numpy import save

from pipeline.dataset.dictionary import Dictionary
from pipeline.dataset.splits import load_split
from pipeline.model.network import CharNetwork, initialise
from pipeline.model.saved import NetworkConfig
from pipeline.params.training import TrainParams
from pipeline.training.checkpoint import ResumableTraining, open_checkpoints
from pipeline.training.loop import Trainer
from pipeline.training.setup import make_deterministic

split, folder, output, kill_at = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
dictionary = Dictionary.load(split / "dictionary.json")
config = NetworkConfig(cell="lstm", num_layers=2, num_hidden=16, num_embed=8, dropout=0.3, vocab_size=len(dictionary))
make_deterministic(threads=1)
network = CharNetwork(config)
initialise(network, magnitude=3.0, generator=torch.Generator().manual_seed(1))
trainer = Trainer(
    network,
    train=load_split(split / "train"),
    evaluation=load_split(split / "eval"),
    params=TrainParams.model_validate(
        {"epochs": 3.0, "batch_size": 8, "optimizer": {"lr": 0.02}, "evals_per_epoch": 3.0}
    ),
    window=20,
    device=torch.device("cpu"),
    dtype=torch.float32,
)
with open_checkpoints(folder, "key") as checkpoints:
    training = ResumableTraining(trainer, checkpoints, run_id="first")
    resumed = training.resumed_from
    for report in training.run(checkpoint_seconds=1e-9):
        if report.step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
    checkpoints.remove()
output.write_bytes(save(trainer.best))
curve = [
    [point.step, point.chars, point.recent_perplexity, point.eval_perplexity, point.is_best]
    for point in training.points
]
output.with_suffix(".json").write_text(json.dumps({"curve": curve, "resumed": resumed, "per_epoch": trainer.per_epoch}))

"""A project's metrics and plots, written by hand, and a tiny random model, for the report."""

import json

import pytest
from support.models import random_model
from support.tables import tables

from pipeline.dataset.build_splits import build_splits
from pipeline.evaluation.measurement import measurement
from pipeline.params.text import SplitParams
from pipeline.reporting.project import Project

TEXT = "a bad cab a fad\nhe had a bag\n" * 40
SHA = "ab" * 32
EVALUATE = {
    "perplexity": 3.5,
    "perplexity_stateful": 3.25,
    "bits_per_char": 1.807,
    "accuracy": 0.61,
    "num_chars": 119,
    "buckets": {"20": {"perplexity": 3.75, "num_chars": 119}},
    "eval_sha256": SHA,
    "measurement": measurement(eval_sha256=SHA, window=100, unknown_chars=0),
    "baseline_perplexity": 3.625,
    "baseline_perplexity_stateful": 3.375,
    "baseline": "Kneser-Ney order 9",
}
METRICS = {
    "ingest": {"documents": 2, "characters": 1210},
    "clean": {"documents": 2, "empty_documents": 0, "characters": 1200, "replaced": 7, "dropped": 3, "composed": 0},
    "split": {"characters": 1200, "train_chars": 1080, "eval_chars": 120, "dictionary_size": 11, "eval_sha256": SHA},
    "train": {"parameters": 4321, "seconds": 42.7, "threads": 2, "device": "cpu", "precision": "fp32"},
    "evaluate": EVALUATE,
}
PARAMS = """
data: {source: corpus.txt}
split: {buckets: [20]}
model: {cell: lstm, num_layers: 2, num_hidden: 12}
train: {epochs: 2, optimizer: {lr: 0.01}}
evaluate: {window: 100}
"""
FILES = {
    "params.yaml": PARAMS,
    "plots/train.csv": "step,epoch,seconds,train_perplexity,eval_perplexity\n1,1.0,2.5,5.5,4.5\n2,2.0,5.0,4.0,3.5\n",
    "plots/tutorial.csv": "epoch,tutorial_eval_perplexity\n1,4.92\n2,4.30\n",
    "plots/position.csv": "position,perplexity,chars\n1,9.5,2\n2,4.25,2\n3,3.0,2\n",
    "plots/characters.csv": (
        "character,count,mean_nats,share_of_loss\na,40,0.6931472,0.5\nspace,30,0.3,0.3\nnewline,9,0.2,0.2\n"
    ),
    "plots/mistakes.csv": "mistake,count,share\na → space,12,0.3\nnewline → a,5,0.55\n",
    "reports/clean.csv": "codepoint,character,became,count\nU+2014,—,-,7\nU+0000,,,3\n",
}
SAMPLES = [
    {
        "mode": "greedy",
        "seed": None,
        "temperature": 0,
        "prompt": "a",
        "completion": " bad bad bad",
        "known_words": 1.0,
        "longest_repeat": 8,
        "copied": 0.25,
    },
    {"mode": "sampled", "seed": 7, "temperature": 0.8, "prompt": "a", "completion": " fab cage", "known_words": 0.5},
]
VALIDATION = {
    "passed": False,
    "expectations": [
        {
            "name": "documents_present",
            "table": "documents",
            "passed": True,
            "found": "2",
            "allowed": "at least 1",
            "why": "there is no text",
        },
        {
            "name": "eval_not_in_train",
            "table": "splits",
            "passed": False,
            "found": "0.9",
            "allowed": "at most 0.01",
            "why": "the eval text was trained on",
        },
    ],
}


def write_project(folder, *, evaluate=None, params=PARAMS, files=None, samples=SAMPLES, seed=0):
    """Write the files of a finished execution under `folder`."""
    jsons = {f"metrics/{stage}.json": one for stage, one in METRICS.items()}
    jsons["metrics/evaluate.json"] = EVALUATE | (evaluate or {})
    jsons |= {"samples/samples.json": samples, "reports/validation.json": VALIDATION}
    texts = FILES | {"params.yaml": params} | (files or {}) | {name: json.dumps(one) for name, one in jsons.items()}
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "data/split").mkdir(parents=True)
    build_splits(tables(TEXT), folder / "data/split", SplitParams(buckets=(20,)))
    random_model(seed=seed).save(folder / "models/charlm")
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = write_project(tmp_path_factory.mktemp("report"))
    return Project("workspace", folder, {"commit": "c0ffee" * 6, "baseline": {"train.epochs": 5}})

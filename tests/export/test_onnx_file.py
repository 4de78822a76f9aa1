"""The ONNX file gives the same probabilities as the engine."""

import json

import numpy as np
import onnxruntime
import pytest
from support.models import random_model

from pipeline.export.onnx_file import write_onnx
from pipeline.generation.engine import Engine

CLOSE = 1e-4


def session(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def zeros(model, batch):
    shape = (model.config.num_layers, batch, model.config.num_hidden)
    return {name: np.zeros(shape, np.float32) for name in ("h", "c")[: 2 if model.config.cell == "lstm" else 1]}


def engine_log_probs(model, ids, precision):
    """Log-probabilities after each of `ids`, float32 [len(ids), vocab]."""
    engine = Engine(model, threads=1, precision=precision)
    predictions = np.empty((len(ids), model.config.vocab_size), np.float32)
    engine.score(np.append(ids[1:], 0), engine.read(ids[:1]), predictions=predictions)
    return predictions


@pytest.mark.parametrize("weights", ["fp32", "bf16"])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_the_same_probabilities_as_the_engine(tmp_path, cell, layers, weights):
    model = random_model(cell, layers=layers, hidden=20, scale=0.4)
    if weights == "bf16":  # the engine rounds the folded embedding as float32, the file before folding
        for name in ("embedding.weight", "layers.0.weight_ih_l0"):
            model.weights[name] = (model.weights[name].view(np.uint32) & 0xFFFF0000).view(np.float32)
    write_onnx(model, tmp_path / "model.onnx", card={}, weights=weights)
    run = session(tmp_path / "model.onnx")
    ids = np.random.default_rng(1).integers(1, model.config.vocab_size, size=(3, 50))
    log_probs, *_ = run.run(None, {"ids": ids} | zeros(model, 3))
    for row, one in zip(log_probs, ids, strict=True):
        assert np.abs(row - engine_log_probs(model, one, weights)).max() < CLOSE


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_text_can_be_read_in_pieces(tmp_path, cell):
    model = random_model(cell)
    write_onnx(model, tmp_path / "model.onnx", card={})
    run = session(tmp_path / "model.onnx")
    ids = np.random.default_rng(1).integers(1, model.config.vocab_size, size=(2, 30))
    whole, *_ = run.run(None, {"ids": ids} | zeros(model, 2))
    states, pieces = zeros(model, 2), []
    for piece in (ids[:, :1], ids[:, 1:20], ids[:, 20:]):
        log_probs, *after = run.run(None, {"ids": piece} | states)
        pieces.append(log_probs)
        states = dict(zip(states, after, strict=True))
    assert np.abs(np.concatenate(pieces, axis=1) - whole).max() < CLOSE


def test_the_metadata_are_what_sampling_needs(tmp_path):
    model = random_model(bounded=True, unknown=True)
    write_onnx(model, tmp_path / "model.onnx", card={"name": "charlm", "curve": [1]})
    metadata = session(tmp_path / "model.onnx").get_modelmeta().custom_metadata_map
    model.dictionary.save(tmp_path / "dictionary.json")
    assert json.loads(metadata["dictionary"]) == json.loads((tmp_path / "dictionary.json").read_text("utf-8"))
    # the end symbol and the characters; not padding, the unknown and the begin symbol
    assert json.loads(metadata["writable"]) == list(range(3, len(model.dictionary)))
    assert json.loads(metadata["sampling"])["temperature"] == 1.0
    assert json.loads(metadata["card"]) == {"name": "charlm"}


def test_the_same_model_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_onnx(random_model(), tmp_path / name, card={"name": "x", "version": None})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_bf16_takes_half_the_bytes(tmp_path):
    model = random_model(hidden=64)
    for weights in ("fp32", "bf16"):
        write_onnx(model, tmp_path / weights, card={}, weights=weights)
    assert (tmp_path / "bf16").stat().st_size < 0.55 * (tmp_path / "fp32").stat().st_size

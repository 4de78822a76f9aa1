"""The engine against the torch network, and its promise that a completion depends only on prompt, options and seed."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from support.models import random_model

from pipeline.generation.engine import Engine
from pipeline.model.network import CharNetwork
from pipeline.params.sampling import Sampling

ROOT = Path(__file__).parents[2]
CELLS = pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])


def log_probs_of(model, ids):
    """Return the torch network's log-probabilities after each of `ids`, float32 [time, vocab]."""
    network = CharNetwork(model.config).eval()
    network.load_weights(model.weights)
    with torch.inference_mode():
        return torch.log_softmax(network(torch.from_numpy(ids)[:, None])[0][:, 0], -1).numpy()


@CELLS
@pytest.mark.parametrize(("layers", "hidden"), [(1, 12), (3, 33), (2, 64)])
def test_log_probabilities_agree_with_the_torch_network(cell, layers, hidden):
    model = random_model(cell, layers=layers, hidden=hidden, scale=hidden**-0.5)  # larger weights amplify errors
    ids = np.random.default_rng(1).integers(1, len(model.dictionary), 300)
    expected = log_probs_of(model, ids)
    engine = Engine(model)
    state = engine.start()
    for at, token in enumerate(ids):
        state = engine.read([token], state)
        np.testing.assert_allclose(engine.predict(state), expected[at], atol=1e-4)
    scores, _ = engine.score(ids[1:], engine.read(ids[:1]))
    np.testing.assert_allclose(scores, expected[np.arange(299), ids[1:]], atol=1e-4)


@CELLS
def test_a_long_greedy_text_agrees_with_the_torch_network(cell):
    model = random_model(cell, hidden=40, scale=0.16)
    engine = Engine(model)
    (written,) = engine.write([engine.row(engine.read([1]), Sampling(temperature=0))], 2000)
    ids = np.concatenate([[1], written.ids]).astype(np.int64)
    predicted = log_probs_of(model, ids)[:-1]
    predicted[:, : model.dictionary.first_id] = -np.inf
    best = np.sort(predicted, axis=1)[:, -2:]
    unsure = np.flatnonzero(best[:, 1] - best[:, 0] < 1e-5)
    end = unsure[0] if len(unsure) else len(written.ids)
    assert (written.ids[:end] == predicted.argmax(1)[:end]).all()
    np.testing.assert_allclose(written.log_probs[:end], predicted.max(1)[:end], atol=1e-4)


@CELLS
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_batch_threads_and_step_size_do_not_change_a_completion(cell, precision):
    model = random_model(cell, layers=2, hidden=36)
    options = [
        Sampling(seed=1),
        Sampling(seed=2, temperature=0.5, top_k=4),
        Sampling(temperature=0),
        Sampling(seed=3, top_p=0.8, min_p=0.05, repetition_penalty=1.3, repetition_window=5),
    ]
    alone = {}
    engine = Engine(model, threads=1, precision=precision)
    for at, sampling in enumerate(options):
        row = engine.row(engine.read([at + 1, 2]), sampling, before=[at + 1, 2])
        alone[at] = engine.write([row], 60)[0]
    for threads, count in ((1, 2), (1, 7), (2, 4), (2, 37), (3, 64)):
        engine = Engine(model, threads=threads, precision=precision)
        which = np.random.default_rng(count).integers(0, len(options), count)
        rows = [engine.row(engine.read([at + 1, 2]), options[at], before=[at + 1, 2]) for at in which]
        chunks = [engine.write(rows, steps) for steps in (1, 5, 54)]  # different numbers of steps at a time
        for number, at in enumerate(which):
            ids = np.concatenate([chunk[number].ids for chunk in chunks])
            scores = np.concatenate([chunk[number].log_probs for chunk in chunks])
            assert ids.tolist() == alone[at].ids.tolist()
            assert scores.tobytes() == alone[at].log_probs.tobytes()


@CELLS
def test_reading_a_prompt_in_one_go_equals_reading_it_id_by_id(cell):
    engine = Engine(random_model(cell))
    ids = np.random.default_rng(2).integers(1, 10, 1300)  # more than fit into one matrix product
    state = engine.start()
    for token in ids:
        state = engine.read([token], state)
    whole = engine.read(ids)
    assert whole.h.tobytes() == state.h.tobytes()
    assert whole.c.tobytes() == state.c.tobytes()


def test_scores_equal_the_log_probabilities_of_generation():
    engine = Engine(random_model())
    state = engine.read([1, 2, 3])
    (written,) = engine.write([engine.row(state, Sampling(seed=5))], 700, predictions=True)
    scores, after = engine.score(written.ids, state)
    np.testing.assert_allclose(scores, written.log_probs, atol=1e-6)
    own = written.predictions[np.arange(700), written.ids]
    np.testing.assert_allclose(own, written.log_probs, atol=1e-6)
    np.testing.assert_allclose(np.exp(written.predictions).sum(1), 1, atol=1e-5)
    assert after.h.tobytes() == engine.read(written.ids, state).h.tobytes()


def test_a_state_can_be_continued_twice():
    engine = Engine(random_model())
    state = engine.read([1, 2, 3])
    one, other = engine.read([4], state), engine.read([5], state)
    assert engine.logits(one).tolist() != engine.logits(other).tolist()
    engine.write([engine.row(state, Sampling())], 10)
    assert engine.logits(engine.read([4], state)).tolist() == engine.logits(one).tolist()


def test_bf16_is_close_to_fp32():
    model = random_model(hidden=64, scale=0.12)
    ids = np.random.default_rng(3).integers(1, 10, 400)
    exact, rounded = (
        engine.score(ids, engine.start())[0] for engine in (Engine(model), Engine(model, precision="bf16"))
    )
    assert exact.tolist() != rounded.tolist()
    assert exact.mean() == pytest.approx(rounded.mean(), abs=0.01)


SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from pipeline.params.sampling import Sampling
from pipeline.generation.text import Writer
print(Writer.load(Path(sys.argv[2])).complete("abc", Sampling(max_new_chars=5)).completion)
assert sys.modules["pipeline.generation"].__path__[0].startswith(sys.argv[1])
print(sorted({"torch", "mlflow", "pandas"} & set(sys.modules)))
"""


@pytest.mark.end_to_end
def test_a_copy_of_the_code_uses_the_cached_kernels_without_heavy_imports(tmp_path):
    from shutil import copytree, ignore_patterns

    random_model().save(tmp_path / "model")
    copytree(ROOT / "pipeline", tmp_path / "copy/pipeline", ignore=ignore_patterns("__pycache__"))
    cached, outputs = [], []
    for folder in (ROOT, tmp_path / "copy"):
        done = subprocess.run(
            [sys.executable, "-I", "-c", SCRIPT, str(folder), str(tmp_path / "model")],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=os.environ | {"CHARLM_CACHE_DIR": str(tmp_path / "cache")},
        )
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
        files = (tmp_path / "cache").rglob("*.kernel")
        cached.append({str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in files})
    assert outputs[0] == outputs[1]
    assert outputs[0].endswith("[]\n")
    assert cached[0] == cached[1]
    assert len(cached[0]) >= 2  # the code of reading and of writing


def test_a_cache_folder_writable_by_others_is_not_used(tmp_path, monkeypatch):
    from pipeline.core import kernel_cache

    monkeypatch.setenv("CHARLM_CACHE_DIR", str(tmp_path))
    folder = kernel_cache.cache_folder(Path(__file__))
    folder.mkdir()
    folder.chmod(0o777)
    assert kernel_cache.KernelCacheLocator.from_function(test_a_state_can_be_continued_twice, "") is None
    folder.chmod(0o700)
    assert kernel_cache.KernelCacheLocator.from_function(test_a_state_can_be_continued_twice, "") is not None

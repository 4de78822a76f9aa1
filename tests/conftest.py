import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import settings

from pipeline.dataset.dictionary import Dictionary
from pipeline.model.saved import NetworkConfig, SavedModel
from pipeline.params.text import SplitParams
from pipeline.splitting.build_splits import build_splits
from pipeline.text.documents import PIECE_BYTES, Row, batches_of, cut_pieces, schema_of

# The first call of a kernel compiles it.
settings.register_profile("charlm", deadline=None)
settings.load_profile("charlm")

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DVC_NO_ANALYTICS"] = "true"
for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "DVC_ROOT", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV"):
    os.environ.pop(variable, None)

TEXT = "the quick brown fox jumps over the lazy dog, and the dog does not mind.\n" * 40


@pytest.fixture(scope="module", autouse=True)
def _environment() -> Iterator[None]:
    """MLflow writes its tracking address into the environment: it must not reach another module's processes."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def text() -> str:
    return TEXT


@pytest.fixture
def split_folder(tmp_path: Path, text: str) -> Path:
    """A folder as the split stage leaves it, of a small text."""
    folder = tmp_path / "split"
    folder.mkdir()
    build_splits(tables(text), folder, SplitParams(buckets=(20,)))
    return folder


def tables(*texts: str, most: int = PIECE_BYTES, at_once: int = 1000, **metadata: list):
    """What gives the documents `texts`, as a stage reads them: in rows of at most `most` bytes, some at once."""
    rows = [
        Row(f"document {number}", piece, part, last=part == len(pieces) - 1,
            metadata={name: values[number] for name, values in metadata.items()})
        for number, text in enumerate(texts)
        for pieces in [list(cut_pieces([text.encode()], most)) or [b""]]
        for part, piece in enumerate(pieces)
    ]  # fmt: skip
    schema = schema_of((name, pa.array(values).type) for name, values in metadata.items())
    batches = [
        pa.RecordBatch.from_arrays(
            [*batch.columns, pc.utf8_length(batch.column("text")).cast(pa.int64())],
            schema=schema.append(pa.field("chars", pa.int64())),
        )
        for at in range(0, len(rows), at_once)
        for batch in batches_of(rows[at : at + at_once], schema)
    ]
    return lambda _=None: iter(batches)


def random_model(
    cell: str = "lstm",
    *,
    layers: int = 2,
    hidden: int = 12,
    unknown: bool = False,
    bounded: bool = False,
    seed: int = 0,
    scale: float = 0.5,
    ending: float = 0.0,
) -> SavedModel:
    """A model with random weights, normal with standard deviation `scale`, over a few characters.

    `ending` is added to the end symbol's logit, of a model that is `bounded`.
    """
    dictionary = Dictionary.of("abcdefgh \n", unknown=unknown, bounded=bounded)
    config = NetworkConfig(
        cell=cell, num_layers=layers, num_hidden=hidden, num_embed=6, dropout=0.0, vocab_size=len(dictionary)
    )
    random = np.random.default_rng(seed)
    weights = {name: (random.normal(size=shape) * scale).astype(np.float32) for name, shape in config.shapes().items()}
    if dictionary.end is not None:
        weights["output.bias"][dictionary.end] += ending
    return SavedModel(config=config, weights=weights, dictionary=dictionary)

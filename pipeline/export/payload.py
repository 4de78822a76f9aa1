"""What an exported page has of a model: its weights in few bits, and the text that its n-gram model counts.

The page builds the n-gram model's trie from that text again, since the text alone is several times smaller. A payload
is compressed (zlib):

    4 bytes          length of the header, little-endian
    header           JSON: config, dictionary, `arrays` (where each array begins, its shape and kind), and the caller's
    arrays           each at a multiple of 8 bytes from the payload's start, little-endian
"""

import json
import zlib
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pipeline.dataset.dictionary import Dictionary
from pipeline.export.wasm import TILE, assembled
from pipeline.generation.engine import Engine
from pipeline.generation.text import Writer
from pipeline.model.ngram import NgramModel, Trie
from pipeline.model.saved import SavedModel
from pipeline.params.sampling import Sampling

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Format = Literal["bf16", "int8"]

LEVEL = 9
ALIGNMENT = 8
# Bytes of base64 for a byte.
BASE64 = 4 / 3
# A text whose size as base64 is between this share of the limit and the limit is long enough.
FULL = 0.97
# What is generated to measure a model whose eval text is not here.
SAMPLES, SAMPLE_CHARS = 8, 1000


def to_int8(matrix: Floats) -> tuple[npt.NDArray[np.int8], Floats]:
    """Return `matrix` as whole numbers from -127 to 127 and a scale for each row, float32 [rows]."""
    scale = np.abs(matrix).max(axis=1) / 127
    scale[scale == 0] = 1
    return np.rint(matrix / scale[:, None]).astype(np.int8), scale.astype(np.float32)


def to_bf16(matrix: Floats) -> npt.NDArray[np.uint16]:
    """Return the upper halves of float32, rounded to the nearest (ties to even)."""
    whole = matrix.view(np.uint32)
    return ((whole + (((whole >> 16) & 1) + 0x7FFF)) >> 16).astype(np.uint16)


def rounded(model: SavedModel, weights: Format) -> SavedModel:
    """Return `model` with matrices that have the values which a page reads back; the biases stay as they are."""

    def read_back(matrix: Floats) -> Floats:
        if weights == "bf16":
            return (to_bf16(matrix).astype(np.uint32) << 16).view(np.float32)
        whole, scale = to_int8(matrix)
        return whole.astype(np.float32) * scale[:, None]

    own = {name: value if value.ndim == 1 else read_back(value) for name, value in model.weights.items()}
    return replace(model, weights=own)


def with_ngram_of(model: SavedModel, most_bytes: int) -> SavedModel:
    """Return `model` with an n-gram model that takes at most about `most_bytes` in a page.

    If the whole does not fit, it is one of the last part of the text; if nothing fits, the model has none.
    """
    if model.ngram is None:
        return model
    text = model.ngram.trie.text
    count = len(text)
    while count > 1 and (size := _text_size(text[-count:], model)) > most_bytes:
        count = min(count - 1, int(count * most_bytes / size * FULL))
    if count <= 1:
        return model.without_ngram()
    if count == len(text):
        return model
    own = model.ngram
    shorter = NgramModel.fit(
        text[-count:].astype(model.dictionary.dtype),
        vocab_size=own.vocab_size,
        order=own.order,
        begin=model.dictionary.begin,
    )
    return replace(model, ngram=replace(shorter, complete=False).with_weights(own.trie.weights))


def _text_size(text: Array, model: SavedModel) -> int:
    """Return the bytes that the text takes in a page."""
    return int(len(zlib.compress(text.astype(model.dictionary.dtype).tobytes(), LEVEL)) * BASE64)


@dataclass(frozen=True)
class Payload:
    """A compressed payload, and how many of its bytes are for the n-gram model."""

    data: bytes
    ngram_bytes: int


def payload_of(model: SavedModel, weights: Format, **header: Any) -> Payload:
    """Return the payload of `model`, whose matrices are those of `rounded`; `header` is added to the header."""
    arrays: dict[str, Array] = {"code": np.frombuffer(assembled(), dtype=np.uint8)}
    for name, value in model.weights.items():
        if value.ndim == 1:
            arrays[name] = value
        elif weights == "int8":
            arrays[name], arrays[f"{name}.scale"] = to_int8(value)
        else:
            # The bytes of each half together: the upper ones compress well.
            arrays[name] = to_bf16(value).view(np.uint8).reshape(-1, 2).T.copy()
    config = model.config.model_dump()
    header |= {
        "config": config | {"tile": TILE, "weights": weights},
        "dictionary": _dictionary(model.dictionary),
        "shapes": {name: list(value.shape) for name, value in model.weights.items()},
    }
    if model.ngram is None:
        return Payload(_packed(header, arrays), 0)
    without = len(_packed(header, arrays))
    trie = model.ngram.trie
    arrays |= {
        "ngram.text": trie.text.astype(model.dictionary.dtype),
        "ngram.discounts": trie.discounts,
        "ngram.weights": trie.weights,
    }
    header["ngram"] = {"levels": _levels(trie), "begin": trie.begin, "uniform": trie.uniform}
    data = _packed(header, arrays)
    return Payload(data, len(data) - without)


def _levels(trie: Trie) -> list[int]:
    """Return the number of grams of each length from 1."""
    ends = [1]
    for _ in range(len(trie.discounts) - 1):
        ends.append(int(trie.first[ends[-1]]))
    return np.diff(ends).tolist()


def _dictionary(dictionary: Dictionary) -> dict[str, Any]:
    return {
        "symbols": dictionary.symbols,
        "first": dictionary.first_id,
        "begin": dictionary.begin,
        "end": dictionary.end,
    }


def _packed(header: dict[str, Any], arrays: dict[str, Array]) -> bytes:
    places, at = {}, 0
    for name, array in arrays.items():
        places[name] = {"at": at, "length": array.size, "kind": array.dtype.name}
        at += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
    text = json.dumps(header | {"arrays": places}, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 4) % ALIGNMENT)
    parts = [len(text).to_bytes(4, "little"), text]
    for array in arrays.values():
        parts += [array.tobytes(), bytes(-array.nbytes % ALIGNMENT)]
    return zlib.compress(b"".join(parts), LEVEL)


def samples_of(model: SavedModel) -> list[npt.NDArray[np.int64]]:
    """Return texts that `model` writes, as ids for `perplexity`: what to measure it on where its eval text is missing.

    The perplexity of another model on them exceeds its own by how much the two differ.
    """
    writer = Writer(model)
    samplings = [Sampling(max_new_chars=SAMPLE_CHARS, seed=seed) for seed in range(SAMPLES)]
    begin, end = model.dictionary.begin, model.dictionary.end
    texts = []
    for done in writer.generate([""] * SAMPLES, samplings):
        ids = model.dictionary.encode(done.completion).tolist()
        ended = [end] if done.finish_reason == "stop" else []
        texts.append(np.array([*([] if begin is None else [begin]), *ids, *ended], dtype=np.int64))
    return texts


def perplexity(model: SavedModel, texts: list[npt.NDArray[np.int64]]) -> float:
    """Return the perplexity on `texts`, int64 [ids] each: all ids but the first, from the zero state."""
    engine = Engine(model)
    nll, count = 0.0, 0
    for ids in texts:
        scores, _ = engine.score(ids[1:], engine.read(ids[:1]))
        nll -= float(scores.sum(dtype=np.float64))
        count += len(scores)
    return float(np.exp(nll / max(count, 1)))

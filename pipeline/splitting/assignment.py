"""Which side of a split each document is on: train, eval or test."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.errors import UserError
from pipeline.params.text import SplitParams
from pipeline.text.kernels.hashing import mixed
from pipeline.text.text_hashes import polynomials

TRAIN, EVAL, TEST = 0, 1, 2
NAMES = ("train", "eval", "test")
# What a column that says the side itself may hold.
SPELT = {"train": TRAIN, "eval": EVAL, "valid": EVAL, "validation": EVAL, "dev": EVAL, "test": TEST}

Sides = npt.NDArray[np.int8]
# From a batch of rows to the side of each, int8 [rows]. Called for all batches in their order.
Rule = Callable[[pa.RecordBatch], Sides]


def side_rule(params: SplitParams, *, total: int) -> Rule:
    """Return the rule that `params` describe for documents of together `total` characters; UserError as the rules."""
    if params.by == "position":
        return _ByPosition(cuts(params, total))
    return _by_hash(params) if params.by == "document" else _by_column(params)


def cuts(params: SplitParams, total: int) -> tuple[int, int]:
    """Return at which of `total` characters the eval text and the test text begin."""
    train = round(total * params.train_fraction)
    return train, max(total - round(total * params.test_fraction), train)


def characters_in(batch: pa.RecordBatch) -> int:
    """Return how many characters the texts of a batch have."""
    return int(np.asarray(batch.column("chars")).sum())


class _ByPosition:
    """A document is on the side in which its first character stands."""

    def __init__(self, borders: tuple[int, int]) -> None:
        self.borders = borders
        self._characters = 0
        self._side = TRAIN

    def __call__(self, batch: pa.RecordBatch) -> Sides:
        chars = np.asarray(batch.column("chars"))
        before = self._characters + np.cumsum(chars) - chars
        self._characters += int(chars.sum())
        own = np.searchsorted(self.borders, before, side="right").astype(np.int8)
        first = np.asarray(batch.column("part")) == 0
        # A row that goes on with a document has the side of its first one.
        begun = np.maximum.accumulate(np.where(first, np.arange(len(own)), -1))
        sides = np.where(begun >= 0, own[begun], self._side).astype(np.int8)
        if len(sides):
            self._side = int(sides[-1])
        return sides


def _by_hash(params: SplitParams) -> Rule:
    """Return the rule by a hash of the name, or of the group: the others do not matter, so new documents move none."""

    def rule(batch: pa.RecordBatch) -> Sides:
        names = batch.column("document").cast(pa.large_string())
        if params.group_by:  # without a group, a document is one of its own
            names = pc.coalesce(_column(batch, params.group_by, "split.group_by").cast(pa.large_string()), names)
        hashes = polynomials(names)
        mixed(hashes)
        drawn = hashes / 2.0**64
        return np.where(
            drawn < params.train_fraction, TRAIN, np.where(drawn < 1 - params.test_fraction, EVAL, TEST)
        ).astype(np.int8)

    return rule


def _by_column(params: SplitParams) -> Rule:
    name = params.column or ""

    def rule(batch: pa.RecordBatch) -> Sides:
        values = _column(batch, name, "split.column")
        missing = np.asarray(values.is_null(nan_is_null=True))
        if missing.any():
            lacking = batch.column("document")[int(np.flatnonzero(missing)[0])]
            raise UserError(f"split.column: document {str(lacking)!r} has no {name}; allowed is a value for each")
        if params.train_until is None:
            return _spelt(values, name)
        late = _greater(values, params.train_until, "split.train_until", name).astype(np.int8)
        if params.eval_until is not None:
            late += _greater(values, params.eval_until, "split.eval_until", name)
        return late

    return rule


def _greater(values: pa.Array, bound: float | str, key: str, name: str) -> npt.NDArray[np.bool_]:
    kind = "numbers"
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        kind = "text"
    elif pa.types.is_boolean(values.type):
        kind = "true and false"
    if kind != ("text" if isinstance(bound, str) else "numbers"):
        raise UserError(f"{key}: found {bound!r}, but {name} holds {kind}; allowed is a bound for numbers or for text")
    if isinstance(bound, int) and abs(bound) >= 1 << 63:
        bound = float(bound)
    return np.asarray(pc.greater(values, pa.scalar(bound)).to_numpy(zero_copy_only=False), dtype=np.bool_)


def _spelt(values: pa.Array, name: str) -> Sides:
    coded = values.cast(pa.string()).dictionary_encode()
    sides = []
    for value in coded.dictionary.to_pylist():
        if value not in SPELT:
            raise UserError(
                f"split.column: {name} holds {value!r}; allowed are {', '.join(SPELT)}, or set split.train_until"
            )
        sides.append(SPELT[value])
    found: Sides = np.array(sides, dtype=np.int8)[np.asarray(coded.indices)]
    return found


def _column(batch: pa.RecordBatch, name: str, key: str) -> Any:
    if name not in batch.schema.names:
        own = [one for one in batch.schema.names if one not in {"part", "last", "text", "chars"}]
        raise UserError(f"{key}: no column {name!r} in the documents; there are {', '.join(own)} (see data.metadata)")
    return batch.column(name)

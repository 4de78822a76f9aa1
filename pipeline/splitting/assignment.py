"""Assigns each document to a side of the split (train, eval or test): by position, by hash or by a column."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.errors import UserError
from pipeline.params.text import SplitParams
from pipeline.text.columns import hash_texts
from pipeline.text.hash_kernels import mix_in_place

TRAIN, EVAL, TEST = 0, 1, 2
NAMES = ("train", "eval", "test")
# The values that a column with the side itself may have.
SPELT = {"train": TRAIN, "eval": EVAL, "valid": EVAL, "validation": EVAL, "dev": EVAL, "test": TEST}

Sides = npt.NDArray[np.int8]
# Returns the side of each row of a batch, int8 [rows]; has to be called for all batches in order.
Rule = Callable[[pa.RecordBatch], Sides]


def side_rule(params: SplitParams, *, total: int) -> Rule:
    """Return the rule that `params` describe for documents with `total` characters; it raises UserError."""
    if params.by == "position":
        return _ByPosition(cuts(params, total))
    return _by_hash(params) if params.by == "document" else _by_column(params)


def cuts(params: SplitParams, total: int) -> tuple[int, int]:
    """Return the positions, among `total` characters, at which the eval text and the test text begin."""
    train = round(total * params.train_fraction)
    return train, max(total - round(total * params.test_fraction), train)


def characters_in(batch: pa.RecordBatch) -> int:
    """Return the number of characters of a batch's texts."""
    return int(np.asarray(batch.column("chars")).sum())


class _ByPosition:
    """A document is on the side to which its first character belongs."""

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
        # A later row of a document has the side of the first one.
        begun = np.maximum.accumulate(np.where(first, np.arange(len(own)), -1))
        sides = np.where(begun >= 0, own[begun], self._side).astype(np.int8)
        if len(sides):
            self._side = int(sides[-1])
        return sides


def _by_hash(params: SplitParams) -> Rule:
    """Return the rule by a hash of the name or group. It ignores other documents, so new ones never move old ones."""

    def rule(batch: pa.RecordBatch) -> Sides:
        names = batch.column("document").cast(pa.large_string())
        if params.group_by:  # a document without a group is a group by itself
            names = pc.coalesce(_column(batch, params.group_by, "split.group_by").cast(pa.large_string()), names)
        hashes = hash_texts(names)
        mix_in_place(hashes)
        fractions = hashes / 2.0**64
        return np.where(
            fractions < params.train_fraction, TRAIN, np.where(fractions < 1 - params.test_fraction, EVAL, TEST)
        ).astype(np.int8)

    return rule


def _by_column(params: SplitParams) -> Rule:
    name = params.column or ""

    def rule(batch: pa.RecordBatch) -> Sides:
        values = _column(batch, name, "split.column")
        missing = np.asarray(values.is_null(nan_is_null=True))
        if missing.any():
            document = batch.column("document")[int(np.flatnonzero(missing)[0])]
            raise UserError(f"split.column: document {str(document)!r} has no {name}; allowed is a value for each")
        if params.train_until is None:
            return _sides_from_names(values, name)
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
        raise UserError(f"{key}: found {bound!r}, but {name} has {kind}; allowed is a bound for numbers or for text")
    if isinstance(bound, int) and abs(bound) >= 1 << 63:
        bound = float(bound)
    return np.asarray(pc.greater(values, pa.scalar(bound)).to_numpy(zero_copy_only=False), dtype=np.bool_)


def _sides_from_names(values: pa.Array, name: str) -> Sides:
    coded = values.cast(pa.string()).dictionary_encode()
    sides = []
    for value in coded.dictionary.to_pylist():
        if value not in SPELT:
            raise UserError(
                f"split.column: {name} has {value!r}; allowed are {', '.join(SPELT)}, or set split.train_until"
            )
        sides.append(SPELT[value])
    found: Sides = np.array(sides, dtype=np.int8)[np.asarray(coded.indices)]
    return found


def _column(batch: pa.RecordBatch, name: str, key: str) -> Any:
    if name not in batch.schema.names:
        own = [one for one in batch.schema.names if one not in {"part", "last", "text", "chars"}]
        raise UserError(f"{key}: no column {name!r} in the documents; there are {', '.join(own)} (see data.metadata)")
    return batch.column(name)

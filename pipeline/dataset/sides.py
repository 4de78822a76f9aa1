"""Decides which text is trained on, evaluated and tested, and yields the text of each side."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.errors import UserError
from pipeline.dataset.dictionary import BEGIN_MARK, END_MARK
from pipeline.params.text import SplitParams
from pipeline.text.documents import Bytes, buffers, flags, hash_texts
from pipeline.text.hash_kernels import mix_in_place
from pipeline.text.shards import CHARS
from pipeline.text.utf8_kernels import join, join_lines

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


def cut_at_lines(batches: Iterable[pa.RecordBatch], borders: tuple[int, int]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield rows with their side, which changes at the first line that begins at a border or after it.

    `borders` are positions in characters. A row in which the side changes is split in two.
    """
    side, at = TRAIN, 0
    line_begins = True  # whether a line begins at the next row, whichever document it belongs to
    for whole in batches:
        batch = whole
        # While a border is in this batch: yield the rows before it, and continue with the rest on the next side.
        while side < TEST and batch.num_rows and at + characters_in(batch) > borders[side]:
            chars = np.asarray(batch.column("chars"))
            ends = at + np.cumsum(chars)
            # The row in which the border is, and the first line that begins in it after the border.
            row = int(np.searchsorted(ends, borders[side], side="right"))
            if row:
                line_begins = _ends_line(batch, row - 1)
            text = str(batch.column("text")[row])
            begins = line_begins or batch.column("part")[row].as_py() == 0
            cut = _line_start(text, max(borders[side] - int(ends[row] - chars[row]), 0), begins=begins)
            # If no line begins after the border, the whole row stays on this side, and the next row is searched.
            before = row + (cut is None)
            yield side, batch.slice(0, before)
            if cut is None:
                line_begins = _ends_line(batch, row)
                at, batch = int(ends[row]), batch.slice(row + 1)
                continue
            if cut:
                yield side, _with_text(batch.slice(row, 1), text[:cut])
                rest = _with_text(batch.slice(row, 1), text[cut:])
                batch = pa.concat_batches([rest, batch.slice(row + 1)])
            else:
                batch = batch.slice(row)
            at = int(ends[row] - chars[row]) + cut
            line_begins = True
            side += 1
        if batch.num_rows:
            line_begins = _ends_line(batch, batch.num_rows - 1)
            at += characters_in(batch)
            yield side, batch


def _line_start(text: str, after: int, *, begins: bool) -> int | None:
    """Return the first index in `text`, `after` or greater, at which a line begins; None if there is none."""
    if after == 0 and begins:
        return 0
    newline = text.find("\n", max(after - 1, 0))
    return newline + 1 if 0 <= newline < len(text) - 1 else None


def _ends_line(batch: pa.RecordBatch, row: int) -> bool:
    return bool(batch.column("last")[row].as_py()) or str(batch.column("text")[row]).endswith("\n")


def _with_text(row: pa.RecordBatch, text: str) -> pa.RecordBatch:
    row = row.set_column(row.schema.get_field_index("text"), "text", pa.array([text], pa.large_string()))
    return row.set_column(row.schema.get_field_index("chars"), "chars", pa.array([len(text)], pa.int64()))


BEGIN, END = ord(BEGIN_MARK), ord(END_MARK)

# Returns the batches of the clean documents, for one pass: with all columns, or only the given ones.
Tables = Callable[[Sequence[str] | None], Iterable[pa.RecordBatch]]


class Chunk(NamedTuple):
    """A chunk of a side's stream, as UTF-8."""

    side: int
    data: Bytes


def streams(tables: Tables, params: SplitParams, *, separator: str) -> Iterator[Chunk]:
    """Yield the streams of all sides in chunks, those of each side in order; UserError from the rules for sides."""
    if params.samples == "stream" and params.by == "position":
        yield from _cut_stream(tables, params, separator)
        return
    joiners = [Joiner(params.samples, separator) for _ in NAMES]
    for side, batch in _sided(tables, params):
        yield Chunk(side, joiners[side].join(batch))


def _sided(tables: Tables, params: SplitParams) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield rows with their side, those of each side in order."""
    total = sum(map(characters_in, tables([CHARS]))) if params.by == "position" else 0
    if params.samples == "lines" and params.by == "position":
        yield from cut_at_lines(tables(None), cuts(params, total))
        return
    rule = side_rule(params, total=total)
    for batch in tables(None):
        sides = rule(batch)
        for side in np.unique(sides).tolist():
            chosen = sides == side
            yield side, batch if chosen.all() else batch.filter(pa.array(chosen))


def _cut_stream(tables: Tables, params: SplitParams, separator: str) -> Iterator[Chunk]:
    """Yield the stream of all documents, cut at an exact character, even within a document."""
    total, documents = 0, 0
    for batch in tables([CHARS, "last"]):
        total += characters_in(batch)
        documents += int(flags(batch.column("last")).sum())
    borders = (*cuts(params, total + max(documents - 1, 0)), None)
    joiner = Joiner("stream", separator)
    side, at = 0, 0
    for batch in tables(None):
        first = np.asarray(batch.column("part")) == 0
        size = characters_in(batch) + int(first.sum()) - (not joiner.started)
        data = joiner.join(batch)
        while (border := borders[side]) is not None and at + size >= border:
            before = len(str(data.data, "utf-8")[: border - at].encode())
            yield Chunk(side, data[:before])
            data, size, at = data[before:], at + size - border, border
            side += 1
        yield Chunk(side, data)
        at += size


class Joiner:
    """Joins the rows of one side, batch by batch, to one stream."""

    def __init__(self, samples: str, separator: str) -> None:
        self.samples = samples
        self.separator = ord(separator)
        self.started = False
        self._line_open = False

    def join(self, batch: pa.RecordBatch) -> Bytes:
        """Return the next chunk of the stream, UTF-8."""
        data, offsets = buffers(batch.column("text"))
        first, last = np.asarray(batch.column("part")) == 0, flags(batch.column("last"))
        if self.samples == "lines":
            out = np.empty(2 * len(data) + 2 * len(first), dtype=np.uint8)
            size, self._line_open = join_lines(data, offsets, last, BEGIN, END, self._line_open, out)
            return out[: int(size)]
        bounded = self.samples == "documents"
        before = np.where(first, BEGIN if bounded else self.separator, 0).astype(np.uint8)
        after = np.where(last, END if bounded else 0, 0).astype(np.uint8)
        if not bounded and not self.started and len(before):
            before[0] = 0
        self.started = self.started or len(before) > 0
        if len(before) == 1 and not before[0] and not after[0]:
            return data  # part of a long document: there is nothing to add, so nothing is copied
        out = np.empty(len(data) + 2 * len(first), dtype=np.uint8)
        return out[: int(join(data, offsets, before, after, out))]

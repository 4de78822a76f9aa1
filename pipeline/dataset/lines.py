"""Cutting a table of documents at the beginning of a line."""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from pipeline.dataset.sides import TEST, TRAIN, characters_in


def cut_at_lines(batches: Iterable[pa.RecordBatch], borders: tuple[int, int]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield the rows of each side with the side, which changes at the first line that begins at a border or after it.

    `borders` are counted in characters. A row in which the side changes is yielded in two.
    """
    side, at = TRAIN, 0
    line_begins = True  # at the next row, whatever document it belongs to
    for whole in batches:
        batch = whole
        while side < TEST and batch.num_rows and at + characters_in(batch) > borders[side]:
            chars = np.asarray(batch.column("chars"))
            ends = at + np.cumsum(chars)
            row = int(np.searchsorted(ends, borders[side], side="right"))
            if row:
                line_begins = _ends_line(batch, row - 1)
            text = str(batch.column("text")[row])
            begins = line_begins or batch.column("part")[row].as_py() == 0
            cut = _line_start(text, max(borders[side] - int(ends[row] - chars[row]), 0), begins=begins)
            # Without a line's start after the border the whole row stays, and the next one is looked through.
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
    """Return the first place in `text`, at `after` or later, at which a line begins; None if there is none."""
    if after == 0 and begins:
        return 0
    newline = text.find("\n", max(after - 1, 0))
    return newline + 1 if 0 <= newline < len(text) - 1 else None


def _ends_line(batch: pa.RecordBatch, row: int) -> bool:
    return bool(batch.column("last")[row].as_py()) or str(batch.column("text")[row]).endswith("\n")


def _with_text(row: pa.RecordBatch, text: str) -> pa.RecordBatch:
    row = row.set_column(row.schema.get_field_index("text"), "text", pa.array([text], pa.large_string()))
    return row.set_column(row.schema.get_field_index("chars"), "chars", pa.array([len(text)], pa.int64()))

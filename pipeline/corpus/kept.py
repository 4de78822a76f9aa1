"""Which documents are kept: not the empty ones, and of those with the same text the first."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.corpus.cleaning import Changes
from pipeline.corpus.duplicates import Hashes, SeenTexts, joined
from pipeline.corpus.rows import buffers, flags
from pipeline.corpus.shards import ShardWriter


@dataclass
class Kept:
    """How many documents and characters were kept; `empty` and `duplicates` are documents that were left out."""

    documents: int = 0
    characters: int = 0
    empty: int = 0
    duplicates: int = 0


class Prepared(NamedTuple):
    """A batch whose texts are done, and what the sink needs of them: hashes uint64 [rows], whether one is empty."""

    batch: pa.RecordBatch
    hashes: Hashes
    is_empty: npt.NDArray[np.bool_]
    changes: Changes | None


class Sink:
    """Leaves out empty documents and those that stood before, and writes the others.

    A document of one row is judged by it. One of several rows is written, and taken back at its end if it has to go.
    """

    def __init__(self, writer: ShardWriter, kept: Kept, *, seen: SeenTexts | None) -> None:
        self.writer = writer
        self.kept = kept
        self.seen = seen
        self._hash = 0
        self._bytes = 0

    def take(self, prepared: Prepared) -> None:
        """Write what stays of a batch."""
        batch = prepared.batch
        first, last = np.asarray(batch.column("part")) == 0, flags(batch.column("last"))
        alone = first & last
        # Runs of rows that are whole documents go together, the others row by row.
        borders = np.flatnonzero(np.diff(alone)) + 1
        for rows in np.split(np.arange(len(alone)), borders):
            if alone[rows[0]]:
                self._take_whole(prepared, rows)
            else:
                for row in rows.tolist():
                    self._take_part(prepared, row, first=bool(first[row]), last=bool(last[row]))

    def _take_whole(self, prepared: Prepared, rows: npt.NDArray[np.int64]) -> None:
        stays = ~prepared.is_empty[rows]
        self.kept.empty += int((~stays).sum())
        if self.seen is not None:
            new = self.seen.add(prepared.hashes[rows][stays])
            self.kept.duplicates += int((~new).sum())
            stays[np.flatnonzero(stays)[~new]] = False
        batch = prepared.batch.slice(rows[0], len(rows))
        if not stays.all():
            batch = batch.filter(pa.array(stays))
        if batch.num_rows:
            self.writer.write(batch)

    def _take_part(self, prepared: Prepared, row: int, *, first: bool, last: bool) -> None:
        if first:
            self.writer.mark()
            self._hash = self._bytes = 0
        batch = prepared.batch.slice(row, 1)
        size = int(buffers(batch.column("text"))[1][-1])
        self._hash = joined(self._hash, int(prepared.hashes[row]), size)
        self._bytes += size
        self.writer.write(batch)
        if not last:
            return
        if not self._bytes:
            self.kept.empty += 1
            self.writer.take_back()
        elif self.seen is not None and not self.seen.add(np.array([self._hash], dtype=np.uint64))[0]:
            self.kept.duplicates += 1
            self.writer.take_back()

"""Cleans the documents table by the character rules; drops empty documents and all but the first copy of duplicates."""

import csv
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.cleaning.rules import UNKNOWN, Changes, Cleaner, Rewriter
from pipeline.core.errors import UserError
from pipeline.core.files import whole_file
from pipeline.core.reproducible import available_cores, ordered_map
from pipeline.params.text import CleanParams
from pipeline.text.documents import (
    Counts,
    Hashes,
    SeenTexts,
    buffers,
    count_characters,
    flags,
    hash_texts,
    join_hashes,
)
from pipeline.text.shards import ShardWriter, read_batches, schema_in, shard_writer
from pipeline.text.utf8_kernels import CODES


@dataclass
class FilterStats:
    """Numbers of documents and characters that were retained, and of `empty` and `duplicates` that were dropped."""

    documents: int = 0
    characters: int = 0
    empty: int = 0
    duplicates: int = 0


class CleanedBatch(NamedTuple):
    """A batch of cleaned rows, with the hash of each, uint64 [rows], and whether it is empty, bool [rows]."""

    batch: pa.RecordBatch
    hashes: Hashes
    is_empty: npt.NDArray[np.bool_]
    changes: Changes | None


class FilteringWriter:
    """Writes documents, except empty ones and (unless `seen` is None) duplicates of earlier ones.

    A document of several rows is known as a duplicate only at its last row: it is written, and then taken back.
    """

    def __init__(self, writer: ShardWriter, stats: FilterStats, *, seen: SeenTexts | None) -> None:
        self.writer = writer
        self.stats = stats
        self.seen = seen
        self._hash = self._bytes = 0  # of the long document that is being written

    def write(self, cleaned: CleanedBatch) -> None:
        """Write the documents of a batch that are retained."""
        batch = cleaned.batch
        first, last = np.asarray(batch.column("part")) == 0, flags(batch.column("last"))
        is_whole = first & last
        # Consecutive rows that are whole documents are handled together, the rows of long documents one by one.
        borders = np.flatnonzero(np.diff(is_whole)) + 1
        for rows in np.split(np.arange(len(is_whole)), borders):
            if is_whole[rows[0]]:
                self._write_whole(cleaned, rows)
            else:
                for row in rows.tolist():
                    self._write_part(cleaned, row, first=bool(first[row]), last=bool(last[row]))

    def _write_whole(self, cleaned: CleanedBatch, rows: npt.NDArray[np.int64]) -> None:
        retained = ~cleaned.is_empty[rows]
        self.stats.empty += int((~retained).sum())
        if self.seen is not None:
            new = self.seen.add(cleaned.hashes[rows][retained])
            self.stats.duplicates += int((~new).sum())
            retained[np.flatnonzero(retained)[~new]] = False
        batch = cleaned.batch.slice(rows[0], len(rows))
        if not retained.all():
            batch = batch.filter(pa.array(retained))
        if batch.num_rows:
            self.writer.write(batch)

    def _write_part(self, cleaned: CleanedBatch, row: int, *, first: bool, last: bool) -> None:
        if first:
            self.writer.mark()
            self._hash = self._bytes = 0
        batch = cleaned.batch.slice(row, 1)
        size = int(buffers(batch.column("text"))[1][-1])
        self._hash = join_hashes(self._hash, int(cleaned.hashes[row]), size)
        self._bytes += size
        self.writer.write(batch)
        if not last:
            return
        if not self._bytes:
            self.stats.empty += 1
            self.writer.take_back()
        elif self.seen is not None and not self.seen.add(np.array([self._hash], dtype=np.uint64))[0]:
            self.stats.duplicates += 1
            self.writer.take_back()


@dataclass
class CleanResult:
    """What cleaning did: to documents (`stats`), by the character rules (`changes`), and to rare characters."""

    stats: FilterStats = field(default_factory=FilterStats)
    changes: Changes = field(default_factory=Changes)
    rare: dict[str, int] = field(default_factory=dict)


def clean_documents(
    source: Path, target: Path, params: CleanParams, *, progress: Callable[[int], None] = lambda _: None
) -> CleanResult:
    """Clean the table in the folder `source` into the empty folder `target`.

    Drops documents without text after the character rules, and with `duplicates: drop` those whose text occurred
    before. Replaces characters that are then rare by the unknown symbol. This can make documents equal and other
    characters rare, so it is repeated until nothing changes. `progress` is called with numbers of bytes of text.
    UserError if no text is left.
    """
    cleaner = Cleaner(params)
    result = CleanResult()

    def by_rules(batch: pa.RecordBatch) -> CleanedBatch:
        first = np.asarray(batch.column("part")) == 0
        texts, changes = cleaner.clean(batch.column("text"), first, flags(batch.column("last")))
        return _cleaned_batch(batch, texts, changes)

    _write(_reporting(read_batches(source), progress), by_rules, target, schema_in(source), params, result)
    if not result.stats.characters:
        raise UserError(
            f"clean: its rules (charset {params.charset}) leave none of {result.changes.counts.sum()} characters; "
            "allowed are rules that leave at least one"
        )
    while rare := _rare_characters(target, params.min_count):
        result.rare |= rare
        _replace_rare(target, params, result, frozenset(rare))
    return result


def figures(result: CleanResult, params: CleanParams) -> dict[str, int]:
    """Return the numbers of documents and characters that each rule changed or dropped."""
    counted = {"replaced": 0, "dropped": 0}
    for _, became, _, count in Cleaner(params).list_changes(result.changes.counts):
        counted["replaced" if became else "dropped"] += count
    return {
        "documents": result.stats.documents,
        "empty_documents": result.stats.empty,
        "duplicate_documents": result.stats.duplicates,
        "characters_before": int(result.changes.counts.sum()) + result.changes.composed,
        "characters": result.stats.characters,
        **counted,
        "composed": result.changes.composed,
        "collapsed": result.changes.collapsed,
        "rare": sum(result.rare.values()),
        "rare_characters": len(result.rare),
    }


def write_changes(path: Path, result: CleanResult, params: CleanParams) -> None:
    """Write a CSV row for each changed or dropped character, most frequent first: what it became, and by which rule."""
    rows = list(Cleaner(params).list_changes(result.changes.counts))
    rows += [(char, UNKNOWN, "min_count", count) for char, count in result.rare.items()]
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["codepoint", "character", "became", "count", "rule"])
        for char, became, rule, count in sorted(rows, key=lambda row: (-row[3], row[0])):
            table.writerow([f"U+{ord(char):04X}", char if char.isprintable() else "", became, count, rule])


def _cleaned_batch(batch: pa.RecordBatch, texts: pa.LargeStringArray, changes: Changes | None) -> CleanedBatch:
    batch = batch.drop_columns(["chars"]).set_column(batch.schema.get_field_index("text"), "text", texts)
    empty = np.diff(buffers(texts)[1]) == 0
    return CleanedBatch(batch, hash_texts(texts), empty, changes)


def _write(
    batches: Iterable[pa.RecordBatch],
    clean: Callable[[pa.RecordBatch], CleanedBatch],
    target: Path,
    schema: pa.Schema,
    params: CleanParams,
    result: CleanResult,
) -> None:
    """Clean batches with `clean`, in several threads, and write the documents that are retained; adds to `result`."""
    with shard_writer(target, schema) as writer:
        filtering = FilteringWriter(writer, result.stats, seen=SeenTexts() if params.duplicates == "drop" else None)
        for cleaned in ordered_map(clean, batches, threads=available_cores()):
            if cleaned.changes:
                result.changes.add(cleaned.changes)
            filtering.write(cleaned)
    result.stats.documents, result.stats.characters = writer.documents, writer.characters


def _rare_characters(folder: Path, min_count: int) -> dict[str, int]:
    """Return the characters that occur fewer than `min_count` times, with their counts."""
    if not min_count:
        return {}
    counts: Counts = np.zeros(CODES, dtype=np.int64)
    columns = (batch.column("text") for batch in read_batches(folder, ["text"]))
    for found in ordered_map(lambda texts: count_characters(buffers(texts)[0]), columns, threads=available_cores()):
        counts[: len(found)] += found
    rare = np.flatnonzero((counts > 0) & (counts < min_count)).tolist()
    return {chr(code): int(counts[code]) for code in rare if chr(code) != UNKNOWN}


def _replace_rare(folder: Path, params: CleanParams, result: CleanResult, rare: frozenset[str]) -> None:
    before = folder.with_name(f"{folder.name}.common")
    folder.rename(before)
    folder.mkdir()
    rewriter = Rewriter(lambda char: UNKNOWN if char in rare else char)

    def by_rarity(batch: pa.RecordBatch) -> CleanedBatch:
        return _cleaned_batch(batch, rewriter.rewrite(batch.column("text")), None)

    try:
        _write(read_batches(before), by_rarity, folder, schema_in(before), params, result)
    finally:
        shutil.rmtree(before)


def _reporting(batches: Iterable[pa.RecordBatch], progress: Callable[[int], None]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield batch
        progress(pc.sum(pc.binary_length(batch.column("text"))).as_py() or 0)

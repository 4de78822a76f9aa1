"""Which documents are kept: not the empty ones, and of those with the same text the first."""

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

from pipeline.cleaning.rules import UNKNOWN, Changes, Cleaner
from pipeline.core.errors import UserError
from pipeline.core.files import whole_file
from pipeline.core.threads import available_cores, ordered_map
from pipeline.params.text import CleanParams
from pipeline.text.char_table import Counts, Rewriter, buffers, count_characters, flags
from pipeline.text.kernels.utf8 import CODES
from pipeline.text.shards import ShardWriter, read_batches, schema_in, shard_writer
from pipeline.text.text_hashes import Hashes, SeenTexts, joined, polynomials


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


@dataclass
class Cleaned:
    """What became of a corpus: which documents were kept, what the rule for characters did, which were rare."""

    kept: Kept = field(default_factory=Kept)
    changes: Changes = field(default_factory=Changes)
    rare: dict[str, int] = field(default_factory=dict)


def clean_documents(
    source: Path, target: Path, params: CleanParams, *, read: Callable[[int], None] = lambda _: None
) -> Cleaned:
    """Clean the table in the folder `source` into the folder `target`, which is there and empty.

    `read` is told of every so many bytes of text that are done. Documents of which nothing stays are left out, and
    those whose text stood before if `duplicates` is drop. Characters that are rare after all that become the unknown
    symbol; since documents can be the same then, and other characters be rare, this goes on until nothing changes.
    UserError if nothing at all stays.
    """
    cleaner = Cleaner(params)
    done = Cleaned()

    def by_rules(batch: pa.RecordBatch) -> Prepared:
        first = np.asarray(batch.column("part")) == 0
        texts, changes = cleaner.clean(batch.column("text"), first, flags(batch.column("last")))
        return _prepared(batch, texts, changes)

    _write(_watched(read_batches(source), read), by_rules, target, schema_in(source), params, done)
    if not done.kept.characters:
        raise UserError(
            f"clean: its rules (charset {params.charset}) leave nothing of {done.changes.counts.sum()} characters; "
            "allowed is what leaves at least one"
        )
    while rare := _rare_characters(target, params.min_count):
        done.rare |= rare
        _replace_rare(target, params, done, frozenset(rare))
    return done


def figures(done: Cleaned, params: CleanParams) -> dict[str, int]:
    """Return what each rule did, in numbers."""
    counted = {"replaced": 0, "dropped": 0}
    for _, became, _, count in Cleaner(params).told(done.changes.counts):
        counted["replaced" if became else "dropped"] += count
    return {
        "documents": done.kept.documents,
        "empty_documents": done.kept.empty,
        "duplicate_documents": done.kept.duplicates,
        "characters_before": int(done.changes.counts.sum()) + done.changes.composed,
        "characters": done.kept.characters,
        **counted,
        "composed": done.changes.composed,
        "collapsed": done.changes.collapsed,
        "rare": sum(done.rare.values()),
        "rare_characters": len(done.rare),
    }


def write_changes(path: Path, done: Cleaned, params: CleanParams) -> None:
    """Write one row per character that did not stay, the most frequent first: what it became, and which rule did it."""
    rows = list(Cleaner(params).told(done.changes.counts))
    rows += [(char, UNKNOWN, "min_count", count) for char, count in done.rare.items()]
    with whole_file(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["codepoint", "character", "became", "count", "rule"])
        for char, became, rule, count in sorted(rows, key=lambda row: (-row[3], row[0])):
            table.writerow([f"U+{ord(char):04X}", char if char.isprintable() else "", became, count, rule])


def _prepared(batch: pa.RecordBatch, texts: pa.LargeStringArray, changes: Changes | None) -> Prepared:
    batch = batch.drop_columns(["chars"]).set_column(batch.schema.get_field_index("text"), "text", texts)
    empty = np.diff(buffers(texts)[1]) == 0
    return Prepared(batch, polynomials(texts), empty, changes)


def _write(
    batches: Iterable[pa.RecordBatch],
    prepare: Callable[[pa.RecordBatch], Prepared],
    target: Path,
    schema: pa.Schema,
    params: CleanParams,
    done: Cleaned,
) -> None:
    """Write the batches that `prepare` makes, less the documents that are left out; `done` is added to."""
    with shard_writer(target, schema) as writer:
        sink = Sink(writer, done.kept, seen=SeenTexts() if params.duplicates == "drop" else None)
        for prepared in ordered_map(prepare, batches, threads=available_cores()):
            if prepared.changes:
                done.changes.add(prepared.changes)
            sink.take(prepared)
    done.kept.documents, done.kept.characters = writer.documents, writer.characters


def _rare_characters(folder: Path, min_count: int) -> dict[str, int]:
    """Return the characters that occur, but fewer than `min_count` times, with how often."""
    if not min_count:
        return {}
    counts: Counts = np.zeros(CODES, dtype=np.int64)
    columns = (batch.column("text") for batch in read_batches(folder, ["text"]))
    for found in ordered_map(lambda texts: count_characters(buffers(texts)[0]), columns, threads=available_cores()):
        counts[: len(found)] += found
    rare = np.flatnonzero((counts > 0) & (counts < min_count)).tolist()
    return {chr(code): int(counts[code]) for code in rare if chr(code) != UNKNOWN}


def _replace_rare(folder: Path, params: CleanParams, done: Cleaned, rare: frozenset[str]) -> None:
    before = folder.with_name(f"{folder.name}.common")
    folder.rename(before)
    folder.mkdir()
    rewriter = Rewriter(lambda char: UNKNOWN if char in rare else char)

    def by_rarity(batch: pa.RecordBatch) -> Prepared:
        return _prepared(batch, rewriter.rewrite(batch.column("text")), None)

    try:
        _write(read_batches(before), by_rarity, folder, schema_in(before), params, done)
    finally:
        shutil.rmtree(before)


def _watched(batches: Iterable[pa.RecordBatch], read: Callable[[int], None]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield batch
        read(pc.sum(pc.binary_length(batch.column("text"))).as_py() or 0)

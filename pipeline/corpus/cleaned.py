"""Cleaning a table of documents by every rule of `clean`: in one pass over the table, or more if rare characters go."""

import csv
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.corpus.cleaning import UNKNOWN, Changes, Cleaner
from pipeline.corpus.duplicates import SeenTexts, polynomials
from pipeline.corpus.kept import Kept, Prepared, Sink
from pipeline.corpus.kernels.utf8 import CODES
from pipeline.corpus.rewriting import Counts, Rewriter, count_characters
from pipeline.corpus.rows import buffers, flags
from pipeline.corpus.shards import read_batches, schema_in, shard_writer
from pipeline.errors import UserError
from pipeline.files import whole_file
from pipeline.params.clean import CleanParams
from pipeline.threads import available_cores, ordered_map


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

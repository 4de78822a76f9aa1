"""A table's rows as blocks of Arrow columns: the few that are wanted, under their own names, as the file has them.

A block has some megabytes, so that memory stays flat; a row may have up to LONGEST_ROW bytes.
"""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from pipeline.corpus.formats.csv_rows import csv_blocks, find_separator
from pipeline.corpus.formats.json_rows import json_blocks
from pipeline.corpus.formats.parquet_rows import parquet_blocks
from pipeline.corpus.formats.text import decode
from pipeline.corpus.formats.wanted import Wanted
from pipeline.corpus.places.source_file import SourceFile
from pipeline.corpus.places.streams import Allowance, Meter, chunks_of, seekable
from pipeline.params.data import DataParams

# What usually separates the cells of a file with this ending.
USUAL_SEPARATOR = {"csv": ",", "tsv": "\t"}


def separator_of(file: SourceFile, params: DataParams) -> str | None:
    """Return what separates the cells of `file`, None if that is what its ending says or if it is not CSV or TSV."""
    usual = USUAL_SEPARATOR.get(file.kind)
    if usual is None:
        return None
    chunks = chunks_of(file, Meter(Allowance(params), lambda _: None))
    text = decode(chunks, file.name, params.encoding, params.errors)
    found = find_separator(text, file.name, Wanted.by(params), usual=usual)
    return None if found == usual else found


def blocks_of(file: SourceFile, params: DataParams, meter: Meter, *, scratch: Path) -> Iterator[pa.RecordBatch]:
    """Yield the rows of the table `file`, read by `meter`; files without a name may go to `scratch`.

    UserError for what is no such table, a wanted column that is not there, and whatever its text is refused for.
    """
    wanted = Wanted.by(params)
    if file.kind == "parquet":
        with seekable(file, meter, scratch=scratch) as stream:
            yield from parquet_blocks(stream, file.name, wanted, meter.spend)
        return

    def text() -> Iterator[bytes]:
        return decode(chunks_of(file, meter), file.name, params.encoding, params.errors)

    if file.kind == "jsonl":
        yield from json_blocks(text(), file.name, wanted)
    else:
        yield from csv_blocks(text, file.name, wanted, usual=USUAL_SEPARATOR[file.kind])

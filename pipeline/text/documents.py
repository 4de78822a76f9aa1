"""Documents as Arrow tables: one row a document, or several if it is long, so that no row is larger than memory allows.

    document  string        the document's name, unique in the corpus
    part      int32         from 0; rows of one document follow each other
    last      bool          whether this is the document's last row
    text      large_string  UTF-8; the texts of a document's rows joined are its text
    …                       what else is known of it (metadata), the same in all of its rows

Texts are cut where no rule of cleaning looks over the cut: see `cut_pieces`.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

BASE = pa.schema([("document", pa.string()), ("part", pa.int32()), ("last", pa.bool_()), ("text", pa.large_string())])

# A row has at most about as many bytes, a batch of rows too.
PIECE_BYTES = 4 << 20
BATCH_BYTES = 8 << 20

# A word that begins after a space: neither a run of spaces nor a composed character goes over such a place.
WORD_START = re.compile(rb"[ \n](?=[0-9A-Za-z])")
# How far back such a place, and then any other, is looked for.
LOOKED_BACK, STEP = 1 << 16, 1 << 10
# What a run of whitespace may be made of, before control characters go.
BLANK = bytes([*range(0x21), 0x7F])
CONTEXT = 32
LONGEST_CHARACTER = 4


@dataclass(frozen=True)
class Row:
    """One row of a table of documents: `text` is UTF-8, `metadata` the values of the columns after the first four."""

    document: str
    text: bytes
    part: int = 0
    last: bool = True
    metadata: Mapping[str, Any] = field(default_factory=dict)


def schema_of(metadata: Iterable[tuple[str, pa.DataType]] = ()) -> pa.Schema:
    """Return the schema of a table of documents with these further columns."""
    return pa.schema([*BASE, *metadata])


def rows_of(document: str, chunks: Iterable[bytes], metadata: Mapping[str, Any] | None = None) -> Iterator[Row]:
    """Yield the rows of a document whose text comes as UTF-8 in `chunks` of any length; without text one that is empty.

    No character may stand in two chunks.
    """
    part, waiting = 0, None
    for piece in cut_pieces(chunks):
        if waiting is not None:
            yield Row(document, waiting, part, last=False, metadata=metadata or {})
            part += 1
        waiting = piece
    yield Row(document, waiting or b"", part, last=True, metadata=metadata or {})


def batches_of(rows: Iterable[Row], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield `rows` as record batches of about BATCH_BYTES."""
    held: list[Row] = []
    size = 0
    for row in rows:
        held.append(row)
        size += len(row.text)
        if size >= BATCH_BYTES:
            yield _batch(held, schema)
            held, size = [], 0
    if held:
        yield _batch(held, schema)


def cut_pieces(chunks: Iterable[bytes], most: int = PIECE_BYTES) -> Iterator[bytes]:
    """Yield the UTF-8 that comes in `chunks` in pieces of at most `most` bytes, none empty.

    A piece but the first begins with a word after a space; in a text without such places with a letter or digit that
    no normal form joins to what stands before it; in one without these too, with any character.
    """
    most = max(most, LONGEST_CHARACTER)
    held: list[bytes] = []
    size = 0
    for chunk in chunks:
        held.append(chunk)
        size += len(chunk)
        if size <= most:
            continue
        data, at = b"".join(held), 0
        while len(data) - at > most:
            end = _cut(data, at, at + most)
            yield data[at:end]
            at = end
        held, size = [data[at:]], len(data) - at
    if size:
        yield b"".join(held)


def _cut(data: bytes, begin: int, end: int) -> int:
    """Return where to cut `data`, after `begin` and at `end` at the latest."""
    for start in range(end - STEP, max(begin, end - LOOKED_BACK) - STEP, -STEP):
        found = list(WORD_START.finditer(data, max(start, begin), min(start + STEP, end) + 1))
        if found:
            return found[-1].end()
    if (before_blanks := begin + len(data[begin:end].rstrip(BLANK))) > begin and before_blanks < end:
        return before_blanks  # a long run of whitespace, whole at the begin of the next piece
    while data[end] & 0xC0 == 0x80:  # noqa: PLR2004  not the first byte of a character
        end -= 1
    start = max(begin, end - STEP)
    before = data[start:end].decode(errors="ignore")
    place, following = end, _first_character(data, end)
    for at in range(len(before), 0, -1):
        if following.isalnum() and _apart(before[max(at - CONTEXT, 0) : at], following):
            return place
        following = before[at - 1]
        place -= len(following.encode())
    return end


def _first_character(data: bytes, at: int) -> str:
    return data[at : at + LONGEST_CHARACTER].decode(errors="ignore")[:1]


def _apart(before: str, char: str) -> bool:
    """Return whether no normal form joins `char` to what stands `before` it."""
    return all(
        unicodedata.normalize(form, before + char)
        == unicodedata.normalize(form, before) + unicodedata.normalize(form, char)
        for form in ("NFC", "NFKC")
    )


def _batch(rows: list[Row], schema: pa.Schema) -> pa.RecordBatch:
    offsets = np.cumsum([0, *(len(row.text) for row in rows)], dtype=np.int64)
    own = [
        pa.array([row.document for row in rows], pa.string()),
        pa.array([row.part for row in rows], pa.int32()),
        pa.array([row.last for row in rows], pa.bool_()),
        pa.LargeStringArray.from_buffers(
            len(rows), pa.py_buffer(offsets), pa.py_buffer(b"".join(row.text for row in rows))
        ),
    ]
    others = [pa.array([row.metadata.get(one.name) for row in rows], one.type) for one in list(schema)[len(BASE) :]]
    return pa.RecordBatch.from_arrays([*own, *others], schema=schema)

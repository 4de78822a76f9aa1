"""The documents table: one row for a document, or several rows for a long one, so that no row is too large for memory.

    document  string        the document's name, unique in the corpus
    part      int32         the number of the row within the document, from 0; a document's rows follow each other
    last      bool          whether this is the document's last row
    text      large_string  UTF-8; a document's text is the texts of its rows, joined
    …                       metadata, the same in all rows of a document

Long texts are cut where no cleaning rule needs to look across the cut: see `cut_pieces`.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

BASE = pa.schema([("document", pa.string()), ("part", pa.int32()), ("last", pa.bool_()), ("text", pa.large_string())])

# The most bytes of text in a row, and about the most in a batch of rows.
PIECE_BYTES = 4 << 20
BATCH_BYTES = 8 << 20

# A word that begins after a space: neither a run of spaces nor a composed character extends across such a place.
WORD_START = re.compile(rb"[ \n](?=[0-9A-Za-z])")
# How far back from the end of a row the search for such a place goes, and in which steps.
LOOKED_BACK, STEP = 1 << 16, 1 << 10
# What a run of whitespace may consist of before control characters are dropped.
BLANK = bytes([*range(0x21), 0x7F])
CONTEXT = 32
LONGEST_CHARACTER = 4


@dataclass(frozen=True)
class Row:
    """One row of a documents table: `text` is UTF-8, `metadata` has the values of the columns after the first four."""

    document: str
    text: bytes
    part: int = 0
    last: bool = True
    metadata: Mapping[str, Any] = field(default_factory=dict)


def schema_of(metadata: Iterable[tuple[str, pa.DataType]] = ()) -> pa.Schema:
    """Return the schema of a documents table with these metadata columns."""
    return pa.schema([*BASE, *metadata])


def rows_of(document: str, chunks: Iterable[bytes], metadata: Mapping[str, Any] | None = None) -> Iterator[Row]:
    """Yield the rows of a document from its text, UTF-8 in `chunks` of any length; one empty row if there is no text.

    No character may be split between two chunks.
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
    """Cut the UTF-8 text that comes in `chunks` into pieces of at most `most` bytes; no piece is empty.

    Every piece except the first begins with a word after a space. Where the text has no such place, it begins with a
    letter or digit that no normal form joins to the characters before it; failing that, with any character.
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
    """Return where to cut `data`: after `begin`, and at `end` or before."""
    # First choice: the last word that begins after a space.
    for start in range(end - STEP, max(begin, end - LOOKED_BACK) - STEP, -STEP):
        found = list(WORD_START.finditer(data, max(start, begin), min(start + STEP, end) + 1))
        if found:
            return found[-1].end()
    # Second: before a long run of whitespace, which then begins the next piece as a whole.
    if (before_blanks := begin + len(data[begin:end].rstrip(BLANK))) > begin and before_blanks < end:
        return before_blanks
    # Third: before a letter or digit that no normal form joins to the characters before it; else before any character.
    while data[end] & 0xC0 == 0x80:  # noqa: PLR2004  not the first byte of a character
        end -= 1
    start = max(begin, end - STEP)
    before = data[start:end].decode(errors="ignore")
    place, following = end, _first_character(data, end)
    for at in range(len(before), 0, -1):
        if following.isalnum() and _is_separate(before[max(at - CONTEXT, 0) : at], following):
            return place
        following = before[at - 1]
        place -= len(following.encode())
    return end


def _first_character(data: bytes, at: int) -> str:
    return data[at : at + LONGEST_CHARACTER].decode(errors="ignore")[:1]


def _is_separate(before: str, char: str) -> bool:
    """Return whether no normal form joins `char` to the characters `before` it."""
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

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

import pyarrow as pa

BASE = pa.schema([("document", pa.string()), ("part", pa.int32()), ("last", pa.bool_()), ("text", pa.large_string())])

# A row has at most this many characters, a batch of rows about as many bytes.
PIECE_CHARACTERS = 4 << 20
BATCH_BYTES = 8 << 20

# A word that begins after a space: neither a run of spaces nor a composed character goes over such a place.
WORD_START = re.compile(r"[ \n](?=[0-9A-Za-z])")
LOOKED_BACK = 1 << 16
CONTEXT = 32


@dataclass(frozen=True)
class Row:
    """One row of a table of documents; `metadata` are the values of the columns after the first four."""

    document: str
    text: str
    part: int = 0
    last: bool = True
    metadata: Mapping[str, Any] = field(default_factory=dict)


def schema_of(metadata: Iterable[tuple[str, pa.DataType]] = ()) -> pa.Schema:
    """Return the schema of a table of documents with these further columns."""
    return pa.schema([*BASE, *metadata])


def rows_of(document: str, chunks: Iterable[str], metadata: Mapping[str, Any] | None = None) -> Iterator[Row]:
    """Yield the rows of a document whose text comes in `chunks` of any length; without text one that is empty."""
    part, waiting = 0, None
    for piece in cut_pieces(chunks):
        if waiting is not None:
            yield Row(document, waiting, part, last=False, metadata=metadata or {})
            part += 1
        waiting = piece
    yield Row(document, waiting or "", part, last=True, metadata=metadata or {})


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


def cut_pieces(chunks: Iterable[str], most: int = PIECE_CHARACTERS) -> Iterator[str]:
    """Yield the text that comes in `chunks` in pieces of at most `most` characters, none empty.

    A piece but the first begins with a word after a space; in a text without such places with a letter or digit that
    no normal form joins to what stands before it; in one without these too, anywhere.
    """
    held = ""
    for chunk in chunks:
        held += chunk
        while len(held) > most:
            at = _cut(held, most)
            yield held[:at]
            held = held[at:]
    if held:
        yield held


def _cut(text: str, most: int) -> int:
    low = max(most - LOOKED_BACK, 1)
    for start in range(most - 1024, low - 1024, -1024):
        found = list(WORD_START.finditer(text, max(start, 0), min(start + 1025, most + 1)))
        if found:
            return found[-1].end()
    for at in range(most, max(most - 1024, 0), -1):
        if text[at].isalnum() and _apart(text[max(at - CONTEXT, 0) : at], text[at]):
            return at
    return most


def _apart(before: str, char: str) -> bool:
    """Return whether no normal form joins `char` to what stands `before` it."""
    return all(
        unicodedata.normalize(form, before + char)
        == unicodedata.normalize(form, before) + unicodedata.normalize(form, char)
        for form in ("NFC", "NFKC")
    )


def _batch(rows: list[Row], schema: pa.Schema) -> pa.RecordBatch:
    columns = [
        [row.document for row in rows],
        [row.part for row in rows],
        [row.last for row in rows],
        [row.text for row in rows],
        *([row.metadata.get(name) for row in rows] for name in schema.names[len(BASE) :]),
    ]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)

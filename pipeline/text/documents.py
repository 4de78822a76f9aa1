"""The documents table: one row for a document, or several rows for a long one, so that no row is too large for memory.

    document  string        the document's name, unique in the corpus
    part      int32         the number of the row within the document, from 0; a document's rows follow each other
    last      bool          whether this is the document's last row
    text      large_string  UTF-8; a document's text is the texts of its rows, joined
    …                       metadata, the same in all rows of a document

Long texts are cut where no cleaning rule needs to look across the cut: see `cut_pieces`. The compiled loops take the
texts of a column as bytes and offsets: see `buffers`.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.text.hash_kernels import add_new, hash_rows, join_hash, mix_in_place
from pipeline.text.utf8_kernels import CODES, count

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
    while data[end] & 0xC0 == 0x80:
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


Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]
Counts = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

# Places for hashes at first.
SMALLEST = 1 << 16


def buffers(texts: pa.Array) -> tuple[Bytes, Offsets]:
    """Return the UTF-8 of all rows of a large_string array, uint8, and the offset of each row in it, int64 [n + 1].

    The last offset is the end of the last row. A null row is empty. Nothing is copied except the offsets of a slice.
    """
    _, offset_buffer, data_buffer = texts.buffers()
    offsets = np.frombuffer(offset_buffer, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    if not len(offsets):  # Arrow may leave out the offsets of no rows
        return np.empty(0, dtype=np.uint8), np.zeros(1, dtype=np.int64)
    data = np.frombuffer(data_buffer or b"", dtype=np.uint8)[offsets[0] : offsets[-1]]
    return data, offsets - offsets[0] if offsets[0] else offsets


def text_array(data: Bytes, offsets: Offsets) -> pa.LargeStringArray:
    """Return the large_string array of these bytes and offsets: the inverse of `buffers`."""
    return pa.LargeStringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(data))


def flags(column: pa.Array) -> npt.NDArray[np.bool_]:
    """Return a column of booleans without nulls as bool [n]."""
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.bool_)


def count_characters(data: Bytes) -> Counts:
    """Return how often each code point occurs in UTF-8 `data`, int64 [greatest code point + 1]."""
    counts = np.zeros(CODES, dtype=np.int64)
    return counts[: int(count(data, counts)) + 1]


def hash_texts(texts: pa.Array) -> Hashes:
    """Return a hash of each row of a large_string array, uint64 [rows]; `join_hashes` joins two of them."""
    data, offsets = buffers(texts)
    out = np.empty(len(texts), dtype=np.uint64)
    hash_rows(data, offsets, out)
    return out


def join_hashes(first: int, second: int, num_bytes: int) -> int:
    """Return the hash of a text from those of its two parts, of which the second has `num_bytes` bytes."""
    return int(join_hash(np.uint64(first), np.uint64(second), num_bytes))


class SeenTexts:
    """The hashes of texts that were seen before, which find duplicates: 16 to 32 bytes for each text.

    Among ten million different texts, two have the same hash with a probability of one in 370,000 (n^2 / 2^65). This
    holds for ordinary texts: two different ones with the same hash can be constructed on purpose.
    """

    def __init__(self) -> None:
        self._table = np.zeros(SMALLEST, dtype=np.uint64)
        self._count = 0

    def add(self, hashes: Hashes) -> npt.NDArray[np.bool_]:
        """Add texts by their hashes, uint64 [n]; returns which of them are new, bool [n]."""
        while 2 * (self._count + len(hashes)) > len(self._table):
            self._grow()
        values = hashes.copy()
        mix_in_place(values)
        is_new = np.empty(len(values), dtype=np.bool_)
        self._count += int(add_new(self._table, values, is_new))
        return is_new

    def _grow(self) -> None:
        known = self._table[self._table != 0]
        self._table = np.zeros(2 * len(self._table), dtype=np.uint64)
        add_new(self._table, known, np.empty(len(known), dtype=np.bool_))

"""Reads CSV and TSV as blocks of string columns; Arrow parses them.

Quoted cells may contain line ends; an empty cell without quotes is missing. The separator is found from the header
alone, so that it is the same in every stage.
"""

import csv
import io
from collections.abc import Callable, Iterator
from itertools import chain
from threading import Semaphore

import pyarrow as pa
import pyarrow.csv as pc

from pipeline.core.errors import UserError, one_line
from pipeline.sources.columns import LONGEST_ROW, ColumnSelection, row_too_long

# Arrow parses one block at a time, and a row has to fit into it. For a longer row, reading restarts with larger blocks.
BLOCK_BYTES = (4 << 20, 32 << 20, LONGEST_ROW)
TOO_LONG = "straddling"
AHEAD = 4
# What may separate the cells of a row, with its name in messages.
SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a vertical bar"}
PATIENCE_SECONDS = 2.0


def find_separator(text: Iterator[bytes], name: str, wanted: ColumnSelection, *, usual: str) -> str:
    """Return which of SEPARATORS the CSV file `name` uses; only the start of its `text` is read.

    It is the first one, beginning with the `usual`, that gives the header all `wanted` columns. If none does, it is the
    one that gives the most columns, which a message about missing columns then lists. Separators within quotes do not
    count. UserError if the header cannot be read.
    """
    first = _start(text)
    return _separator(_headers(first, name, usual=usual), wanted) if first.strip(b"\n") else usual


def csv_blocks(
    text: Callable[[], Iterator[bytes]], name: str, wanted: ColumnSelection, *, usual: str
) -> Iterator[pa.RecordBatch]:
    """Yield the `wanted` columns of the CSV file `name`; `text` gives its text from the start.

    The separator is that of `find_separator`.

    UserError for rows of another length than the header, a missing column, or a row of more than LONGEST_ROW.
    """
    done = 0
    for size in BLOCK_BYTES:
        try:
            for block in _blocks(text(), name, wanted, usual=usual, size=size, skip=done):
                done += block.num_rows
                yield block
        except pa.ArrowInvalid as error:
            if TOO_LONG not in str(error):
                raise UserError(f"data.source: {name}: {_message(error)}") from None
        else:
            return
    raise row_too_long(name)


def _blocks(
    text: Iterator[bytes], name: str, wanted: ColumnSelection, *, usual: str, size: int, skip: int
) -> Iterator[pa.RecordBatch]:
    first = _start(text)
    if not first.strip(b"\n"):
        return
    headers = _headers(first, name, usual=usual)
    delimiter = _separator(headers, wanted)
    wanted.check(headers[delimiter], name, separated_by=SEPARATORS[delimiter])
    stream = ReadAhead(chain([first], text))
    try:
        reader = pc.open_csv(
            stream,
            read_options=pc.ReadOptions(block_size=size, use_threads=False),  # with threads it cannot count rows
            parse_options=pc.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pc.ConvertOptions(
                include_columns=wanted.names,
                column_types=dict.fromkeys(wanted.names, pa.string()) | {wanted.text: pa.large_string()},
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                null_values=[""],
            ),
        )
        for block in reader:
            kept = block.slice(min(skip, block.num_rows))
            skip -= block.num_rows - kept.num_rows
            if kept.num_rows:
                yield kept
            stream.release()
    finally:
        stream.release_all()


def _start(text: Iterator[bytes]) -> bytes:
    """Return the text up to the chunk in which the first line ends, at most a block more than BLOCK_BYTES[0]."""
    first = b""
    for chunk in text:
        first += chunk
        if b"\n" in first.lstrip(b"\n") or len(first) > BLOCK_BYTES[0]:
            break
    return first


def _headers(first: bytes, name: str, *, usual: str) -> dict[str, list[str]]:
    """Return the cells of the header under each of SEPARATORS, the `usual` first."""
    start = first.lstrip(b"\n").decode()
    headers = {}
    for separator in dict.fromkeys([usual, *SEPARATORS]):
        try:
            headers[separator] = next(csv.reader(io.StringIO(start), delimiter=separator))
        except csv.Error as error:
            if separator == usual:
                raise UserError(
                    f"data.source: {name}: no readable header ({error}); is a line end or a closing quote missing?"
                ) from None
    return headers


def _separator(headers: dict[str, list[str]], wanted: ColumnSelection) -> str:
    for separator, header in headers.items():
        if set(wanted.names) <= set(header):
            return separator
    return max(headers, key=lambda separator: len(headers[separator]))  # the first of equals


class ReadAhead(io.RawIOBase):
    """A stream of the bytes that come in chunks, read from another thread.

    Arrow reads 32 blocks ahead, whatever their size. Here a read waits until at most AHEAD blocks are unfinished.
    """

    def __init__(self, chunks: Iterator[bytes]) -> None:
        super().__init__()
        self._chunks = chunks
        self._held = memoryview(b"")
        self._may_read = Semaphore(AHEAD)
        self._waits = True

    def release(self) -> None:
        """Allow one more block to be read."""
        self._may_read.release()

    def release_all(self) -> None:
        """Allow all further reads."""
        self._waits = False
        self._may_read.release()

    def readable(self) -> bool:
        """Return True: this stream is for reading."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return the next `size` bytes; fewer only at the end of the stream."""
        if self._waits:
            # With the timeout, reading would only be slow if Arrow ever made other batches than one for each block.
            self._may_read.acquire(timeout=PATIENCE_SECONDS)
        parts, missing = [], size
        while missing > 0:
            if not self._held:
                chunk = next(self._chunks, None)
                if chunk is None:
                    break
                self._held = memoryview(chunk)
            parts.append(self._held[:missing])
            missing -= len(parts[-1])
            self._held = self._held[len(parts[-1]) :]
        return b"".join(parts)


def _message(error: Exception) -> str:
    return one_line(str(error).removeprefix("CSV parse error: "), most=200)

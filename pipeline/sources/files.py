"""A file of a source: what it contains by the ending of its name, and its bytes as a stream.

Bytes are unpacked, counted and hashed while they are read, with flat memory.
"""

import hashlib
import io
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from pipeline.core.errors import UserError, one_line
from pipeline.params.text import DataParams

TEXT = "text"
KINDS = {".txt": TEXT, ".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
PACKINGS = {".gz": "gzip", ".zst": "zstd"}
ENDINGS = ", ".join(KINDS)


@dataclass(frozen=True)
class SourceFile:
    """One file of a source. `name` is relative to the source, with forward slashes; `member` is its name in a zip."""

    name: str
    path: Path
    member: str | None = None

    @property
    def packing(self) -> str | None:
        """How the file is compressed: "gzip", "zstd" or None."""
        return PACKINGS.get(_ending(self.name))

    @property
    def kind(self) -> str:
        """What the file contains: "text", "csv", "tsv", "jsonl" or "parquet"; an unknown ending means text."""
        return KINDS.get(_inner_ending(self.name), TEXT)

    @property
    def is_table(self) -> bool:
        """Whether the file is a table, with one document in each row."""
        return self.kind != TEXT


def has_known_ending(name: str) -> bool:
    """Return whether the ending of a file's name is one that says what it contains."""
    return _inner_ending(name) in KINDS


def hold_tables(files: Sequence[SourceFile], source: str) -> bool:
    """Return whether `files` are tables rather than text; UserError if there are both."""
    table = next((file.name for file in files if file.is_table), None)
    text = next((file.name for file in files if not file.is_table), None)
    if table and text:
        raise UserError(
            f"data.source: {source}: contains text ({text}) and tables ({table}); allowed is one kind, as by a glob"
        )
    return table is not None


def _inner_ending(name: str) -> str:
    ending = _ending(name)
    return _ending(name[: -len(ending)]) if ending in PACKINGS else ending


def _ending(name: str) -> str:
    """Return the last ending of a name in lower case, with its dot; faster than pathlib, for many files."""
    base = name.rpartition("/")[2]
    at = base.rfind(".")
    return base[at:].lower() if at > 0 else ""


READ_BYTES = 1 << 20
GB = 10**9

# The exceptions that readers of files, zips and compressed streams raise when these are damaged.
DAMAGE = (OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, pa.ArrowInvalid)


class Allowance:
    """How many more bytes a source may unpack to; `data.max_gb` at first."""

    def __init__(self, params: DataParams) -> None:
        self._params = params
        self._left = params.max_gb * GB

    def spend(self, count: int) -> None:
        """Subtract `count` bytes; UserError if fewer are left."""
        self._left -= count
        if self._left < 0:
            raise UserError(f"data.max_gb: the source has more than {self._params.max_gb:g} GB, unpacked")


class Meter:
    """Counts and hashes the bytes that are read of one file, and counts the bytes that it unpacks to.

    A file may be read again from its start: `progress` and the allowance count every byte once.
    """

    def __init__(self, allowance: Allowance, progress: Callable[[int], None]) -> None:
        self._allowance = allowance
        self._progress = progress
        self._reported = self._spent = 0
        self.start()

    def start(self) -> None:
        """Start at the beginning of the file."""
        self._digest = hashlib.sha256()
        self.bytes = self.unpacked = 0

    @property
    def sha256(self) -> str:
        """The SHA-256 of what has been read, as 64 hexadecimal digits."""
        return self._digest.hexdigest()

    def take(self, data: bytes) -> None:
        """Count bytes of the file itself."""
        self._digest.update(data)
        self.bytes += len(data)
        if self.bytes > self._reported:
            self._progress(self.bytes - self._reported)
            self._reported = self.bytes

    def spend(self, count: int) -> None:
        """Count unpacked bytes; UserError if they exceed the allowance."""
        self.unpacked += count
        if self.unpacked > self._spent:
            self._allowance.spend(self.unpacked - self._spent)
            self._spent = self.unpacked


class MeteredStream(io.RawIOBase):
    """A stream that passes all bytes that are read from it to `count`, and reports damage as a UserError."""

    def __init__(self, inner: Any, name: str, count: Callable[[bytes], None]) -> None:
        super().__init__()
        self._inner = inner
        self._name = name
        self._count = count

    def readable(self) -> bool:
        """Return True: this stream is for reading."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return the next `size` bytes; fewer only at the end of the stream."""
        try:
            data: bytes = self._inner.read(size)
        except DAMAGE as error:
            raise unreadable(self._name, error) from None
        if data:
            self._count(data)
        return data

    def close(self) -> None:
        """Close the inner stream too."""
        self._inner.close()
        super().close()


def unreadable(name: str, error: BaseException) -> UserError:
    """Return the error to raise for a file that cannot be opened or unpacked."""
    message = error.strerror if isinstance(error, OSError) and error.strerror else error
    return UserError(f"data.source: {name}: cannot be read: {one_line(message)}")


@contextmanager
def open_stream(file: SourceFile, meter: Meter) -> Iterator[MeteredStream]:
    """Yield a stream of the unpacked bytes of `file`, counted by `meter`; UserError if it cannot be read."""
    meter.start()
    with _opened_raw(file) as raw:
        if file.packing is None:

            def count(data: bytes) -> None:
                meter.take(data)
                meter.spend(len(data))

            yield MeteredStream(raw, file.name, count)
        else:
            packed = pa.CompressedInputStream(MeteredStream(raw, file.name, meter.take), file.packing)
            yield MeteredStream(packed, file.name, lambda data: meter.spend(len(data)))


def read_chunks(file: SourceFile, meter: Meter) -> Iterator[bytes]:
    """Yield the unpacked bytes of `file` in chunks of READ_BYTES."""
    with open_stream(file, meter) as stream:
        while data := stream.read(READ_BYTES):
            yield data


@contextmanager
def open_seekable(file: SourceFile, meter: Meter, *, scratch: Path) -> Iterator[IO[bytes]]:
    """Yield `file`, unpacked and already counted to its end by `meter`, as a file that can seek.

    A packed file is unpacked into a file without a name in `scratch`, so that a killed process leaves nothing behind.
    """
    if file.packing is None and file.member is None:
        meter.start()  # nothing is unpacked yet
        with _opened_raw(file) as raw, MeteredStream(raw, file.name, meter.take) as whole:
            while whole.read(READ_BYTES):
                pass
        with file.path.open("rb") as plain:
            yield plain
        return
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=scratch) as unpacked, open_stream(file, meter) as stream:
        shutil.copyfileobj(stream, unpacked, READ_BYTES)
        unpacked.seek(0)
        yield unpacked


@contextmanager
def _opened_raw(file: SourceFile) -> Iterator[IO[bytes]]:
    try:
        if file.member is None:
            stream: IO[bytes] = file.path.open("rb", buffering=0)
        else:
            status = file.path.stat()
            stream = _archive(file.path, status.st_size, status.st_mtime_ns).open(file.member)
    except (*DAMAGE, KeyError) as error:
        raise unreadable(file.name, error) from None
    try:
        yield stream
    finally:
        stream.close()


@lru_cache(maxsize=1)
def _archive(path: Path, size: int, changed: int) -> zipfile.ZipFile:
    """Return the open zip at `path`: its list of members is read once, not for each member."""
    return zipfile.ZipFile(path)

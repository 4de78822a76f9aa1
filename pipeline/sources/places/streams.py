"""A source's files as streams of bytes: unpacked while they are read, counted and hashed; never whole in memory."""

import hashlib
import io
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from pipeline.core.errors import UserError
from pipeline.params.text import DataParams
from pipeline.sources.places.source_file import SourceFile

READ_BYTES = 1 << 20
GB = 10**9

# What the readers of files, zips and packed streams raise when these are damaged.
DAMAGE = (OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, pa.ArrowInvalid)


class Allowance:
    """How many bytes a source may still unpack to; `data.max_gb` at first."""

    def __init__(self, params: DataParams) -> None:
        self._params = params
        self._left = params.max_gb * GB

    def spend(self, count: int) -> None:
        """Take `count` bytes off; UserError if there are not so many left."""
        self._left -= count
        if self._left < 0:
            raise UserError(f"data.max_gb: the source holds more than {self._params.max_gb:g} GB, unpacked")


class Meter:
    """What has been read of one file: its size and hash, and the size of what it unpacks to.

    A file may be read again from its start; what was told and spent by then is not told and spent twice.
    """

    def __init__(self, allowance: Allowance, read: Callable[[int], None]) -> None:
        self._allowance = allowance
        self._read = read
        self._told = self._spent = 0
        self.start()

    def start(self) -> None:
        """Begin at the file's start."""
        self._digest = hashlib.sha256()
        self.bytes = self.unpacked = 0

    @property
    def sha256(self) -> str:
        """The SHA-256 of what has been read, as 64 hexadecimal digits."""
        return self._digest.hexdigest()

    def take(self, data: bytes) -> None:
        """Count bytes as the file has them."""
        self._digest.update(data)
        self.bytes += len(data)
        if self.bytes > self._told:
            self._read(self.bytes - self._told)
            self._told = self.bytes

    def spend(self, count: int) -> None:
        """Count unpacked bytes; UserError if the source may not have so many."""
        self.unpacked += count
        if self.unpacked > self._spent:
            self._allowance.spend(self.unpacked - self._spent)
            self._spent = self.unpacked


class Watched(io.RawIOBase):
    """A stream that shows `seen` all that is read from it, and tells damage as a UserError."""

    def __init__(self, inner: Any, name: str, seen: Callable[[bytes], None]) -> None:
        super().__init__()
        self._inner = inner
        self._name = name
        self._seen = seen

    def readable(self) -> bool:
        """Return True: this stream is for reading."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return the next `size` bytes; fewer only at the stream's end."""
        try:
            data: bytes = self._inner.read(size)
        except DAMAGE as error:
            raise unreadable(self._name, error) from None
        if data:
            self._seen(data)
        return data

    def close(self) -> None:
        """Close what is read from too."""
        self._inner.close()
        super().close()


def unreadable(name: str, error: BaseException) -> UserError:
    """Return the error to raise for a file that cannot be opened or unpacked."""
    why = error.strerror if isinstance(error, OSError) and error.strerror else error
    return UserError(f"data.source: {name}: cannot be read: {why}")


@contextmanager
def opened(file: SourceFile, meter: Meter) -> Iterator[Watched]:
    """Give the unpacked bytes of `file` from its start, counted by `meter`; UserError if it cannot be read."""
    meter.start()
    with _opened_raw(file) as raw:
        if file.packing is None:

            def seen(data: bytes) -> None:
                meter.take(data)
                meter.spend(len(data))

            yield Watched(raw, file.name, seen)
        else:
            packed = pa.CompressedInputStream(Watched(raw, file.name, meter.take), file.packing)
            yield Watched(packed, file.name, lambda data: meter.spend(len(data)))


def chunks_of(file: SourceFile, meter: Meter) -> Iterator[bytes]:
    """Yield the unpacked bytes of `file` in chunks of READ_BYTES."""
    with opened(file, meter) as stream:
        while data := stream.read(READ_BYTES):
            yield data


@contextmanager
def seekable(file: SourceFile, meter: Meter, *, scratch: Path) -> Iterator[IO[bytes]]:
    """Give `file` unpacked and read to its end by `meter`, as a file in which one can go back.

    One that is packed goes to a file under `scratch` that has no name, so that a killed process leaves nothing.
    """
    if file.packing is None and file.member is None:
        meter.start()  # nothing is unpacked yet
        with _opened_raw(file) as raw, Watched(raw, file.name, meter.take) as whole:
            while whole.read(READ_BYTES):
                pass
        with file.path.open("rb") as plain:
            yield plain
        return
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=scratch) as unpacked, opened(file, meter) as stream:
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
def _archive(path: Path, size: int, changed: int) -> zipfile.ZipFile:  # noqa: ARG001  another file has others
    """Return the zip at `path`, open: its list of members is read once, not for each of them."""
    return zipfile.ZipFile(path)

"""Writes and reads documents tables on disk: folders of Parquet files (shards), one row group in memory at a time.

    part-00000.parquet, part-00001.parquet, …    about SHARD_BYTES of text each

Each file is a complete table, so that several machines can read or write a corpus in parallel. Writing adds the column
`chars` (int64, the number of characters of the text).
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.core.errors import UserError, one_line
from pipeline.text.documents import BASE

SHARD_BYTES = 64 << 20
CHARS = "chars"
# The most batches that wait to be written.
WAITING = 2


class ShardWriter:
    """Writes record batches in order, in a separate thread: compression is most of the work.

    `take_back` removes everything that was written since `mark`.
    """

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self.folder = folder
        self.schema = schema.append(pa.field(CHARS, pa.int64()))
        self.documents = 0
        self.characters = 0
        self._shard = 0
        self._file: pq.ParquetWriter | None = None
        self._written = 0
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="shards")
        self._waiting: deque[Future[None]] = deque()
        self._marked: tuple[int, int, int] | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        """Add a batch of rows, which has the schema that was given to the writer."""
        chars = pc.utf8_length(batch.column("text")).cast(pa.int64())
        self.documents += pc.sum(batch.column("last")).as_py() or 0
        self.characters += pc.sum(chars).as_py() or 0
        whole = pa.RecordBatch.from_arrays([*batch.columns, chars], schema=self.schema)
        self._waiting.append(self._pool.submit(self._write, whole))
        while len(self._waiting) > WAITING:
            self._waiting.popleft().result()

    def mark(self) -> None:
        """Remember this place for `take_back`, until the next mark. What follows is written to a new file."""
        self._settle()
        self._close_file()
        self._marked = self._shard, self.documents, self.characters

    def take_back(self) -> None:
        """Remove everything that was written since the last mark."""
        if self._marked is None:
            raise ValueError("nothing was marked")
        self._settle()
        self._close_file()
        shard, self.documents, self.characters = self._marked
        for number in range(shard, self._shard):
            self._path(number).unlink()
        self._shard = shard

    def close(self) -> None:
        """Write the waiting batches and close the last file."""
        try:
            self._settle()
        finally:  # after a failed write, no waiting one may run while the file is closed
            self._pool.shutdown(cancel_futures=True)
            self._close_file()

    def _settle(self) -> None:
        while self._waiting:
            self._waiting.popleft().result()

    def _write(self, batch: pa.RecordBatch) -> None:
        if self._file is None:
            # Nearly all names and texts are distinct, so encoding them with a dictionary would cost time and space.
            names = [name for name in self.schema.names if name not in {"document", "text"}]
            self._file = pq.ParquetWriter(
                self._path(self._shard),
                self.schema,
                compression="lz4",  # takes half the time of zstd, also to read; the files are 1.5 times as large
                use_dictionary=names,
                write_statistics=False,
            )
        self._file.write_batch(batch, row_group_size=max(batch.num_rows, 1))
        self._written += batch.column("text").nbytes
        if self._written >= SHARD_BYTES:
            self._close_file()

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
            self._written = 0
            self._shard += 1

    def _path(self, number: int) -> Path:
        return self.folder / f"part-{number:05d}.parquet"


@contextmanager
def shard_writer(folder: Path, schema: pa.Schema) -> Iterator[ShardWriter]:
    """Yield a writer of a table into `folder`, and close it at the end."""
    writer = ShardWriter(folder, schema)
    try:
        yield writer
    finally:
        writer.close()


def shards_in(folder: Path) -> list[Path]:
    """Return the files of a table in order; UserError if there are none."""
    found = sorted(folder.glob("part-*.parquet"), key=lambda path: (len(path.name), path.name))  # part-100000 is last
    if not found:
        raise UserError(f"{folder}: no documents table; `dvc repro` or `dvc checkout` creates it")
    return found


def schema_in(folder: Path) -> pa.Schema:
    """Return the schema of the table in `folder`, without `chars`."""
    with _opened(shards_in(folder)[0]) as table:
        schema = table.schema_arrow
    return schema.remove(schema.get_field_index(CHARS)).remove_metadata()


def text_bytes(folder: Path) -> int:
    """Return about how many bytes of text the table in `folder` has, from the metadata of its files."""
    total = 0
    for path in shards_in(folder):
        with _opened(path) as table:
            column = table.schema_arrow.get_field_index("text")
            groups = (table.metadata.row_group(number) for number in range(table.num_row_groups))
            total += sum(group.column(column).total_uncompressed_size for group in groups)
    return total


def read_batches(folder: Path, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Yield the rows of the table in `folder` (only these `columns`), with one row group in memory at a time.

    UserError if a file is damaged.
    """
    for path in shards_in(folder):
        yield from read_shard(path, columns)


def read_shard(path: Path, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Yield the rows of one file of a table, as `read_batches` does."""
    with _opened(path) as table:
        for group in range(table.num_row_groups):
            for batch in table.read_row_group(group, columns=columns).combine_chunks().to_batches():
                # The kernels trust that text is UTF-8, and NumPy that flags and numbers have no nulls.
                batch.validate(full=True)
                if odd := [name for name in ("part", "last") if name in batch.schema.names and batch[name].null_count]:
                    raise pa.ArrowInvalid(f"column {odd[0]} has nulls")
                yield batch.replace_schema_metadata(None)


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    """Open one file of a table; UserError if it is damaged, or lacks a column."""
    try:
        with pq.ParquetFile(path, pre_buffer=False) as table:
            for wanted in (*BASE, pa.field(CHARS, pa.int64())):
                if (found := table.schema_arrow.field(wanted.name).type) != wanted.type:
                    raise pa.ArrowInvalid(f"column {wanted.name} is {found}, allowed is {wanted.type}")
            yield table
    except (pa.ArrowException, OSError, KeyError) as error:
        raise UserError(f"{path}: damaged: {one_line(error, most=200)}; `dvc checkout` restores it") from None

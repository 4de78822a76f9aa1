"""Reads and checks a whole source before the pipeline changes any output, and describes what identifies its content.

Every file is read to its end, decoded, and parsed if it is a table. The results for unchanged files are cached.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.core.errors import UserError
from pipeline.core.files import sha256_of, whole_file
from pipeline.params.text import AUTO, SOTU, DataParams
from pipeline.sources.columns import plain_type, wider, written_type
from pipeline.sources.decoding import decode, encoding_of
from pipeline.sources.files import Allowance, Meter, SourceFile, hold_tables, read_chunks
from pipeline.sources.finding import find_files, redacted
from pipeline.sources.table_documents import blocks_of, refuse_nul, separator_of

# To be increased when the checks of files become stricter: older results in the cache are then ignored.
VERSION = 1
RACY_NS = 2_000_000_000
# The metadata of every speech, which the documents table has whether or not `data.metadata` lists it.
METADATA = {"year": pa.int64(), "date": pa.string(), "speaker": pa.string(), "party": pa.string()}


def describe(
    params: DataParams, *, root: Path, cache: Path, progress: Callable[[int], None] = lambda _: None
) -> dict[str, Any]:
    """Return what identifies the source's content, as JSON data: names, sizes and SHA-256 of its files.

    The entry of a file with a guessed encoding has it too (`encoding`), that of a table the types of its metadata
    (`columns`), and that of a CSV file whose separator is not the usual one of its ending that too (`separator`). For
    sotu it is the package's version and the selection. Relative paths are relative to `root`; files from elsewhere are
    copied into the folder `cache`, next to which results are cached. `progress` is called with the numbers of bytes
    that are fetched or read.

    UserError if the source is missing, empty or larger than `data.max_gb`, if a file is binary, damaged or not in
    `data.encoding`, if a column is missing, or if the content does not have the hash `data.sha256`.
    """
    if params.source == SOTU:
        return describe_speeches(params)
    with _file_cache(params, cache) as cached:

        def sha256(path: Path) -> str:
            return str(cached.get(path, "sha256", partial(sha256_of, path)))

        files = find_files(params, root=root, cache=cache, progress=progress, sha256=sha256)
        check_columns(params, tables=hold_tables(files, params.source))
        _check_sha256(params, files, sha256)
        allowance = Allowance(params)
        entries = []
        for file in files:
            compute = partial(_describe_file, file, params, cache, progress)
            found = cached.get(file.path, _request(file, params), compute)
            # Counted for cached results too: the limit may have been lowered, or there may be more files.
            allowance.spend(found["unpacked"])
            entries.append(found["entry"])
    if not any(entry["bytes"] for entry in entries):
        raise UserError(f"data.source: {params.source}: empty; allowed is text of at least one character")
    return {"files": entries}


def check_columns(params: DataParams, *, tables: bool) -> None:
    """Refuse params that name columns if the files are text."""
    if tables:
        return
    if params.metadata:
        raise UserError(f"data.metadata: found {', '.join(params.metadata)}, allowed is none: only tables have columns")
    if params.id_column is not None:
        raise UserError(f"data.id_column: found {params.id_column!r}, allowed is null: only tables have columns")


class FileCache:
    """Caches results about files in the JSON file `path`: hashing a large text takes seconds, asking for its time none.

    A file is unchanged if its path, size, time of change and inode are. A file that was written within the last two
    seconds could change again without a change of its time, so results about it are not cached (Git calls these
    "racily clean").
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            digest, _, text = path.read_text(encoding="utf-8").partition("\n")
        except (OSError, ValueError):
            digest, text = "", ""
        # A damaged file, or one of an earlier version without a hash, is as good as none.
        self._known: dict[str, Any] = json.loads(text) if digest == _digest(text) else {}
        self._used: dict[str, Any] = {}

    def get(self, path: Path, request: str, compute: Callable[[], Any]) -> Any:
        """Return `compute()`, JSON data; its cached result if `path` has not changed since the same request."""
        key = json.dumps([VERSION, str(path), request])
        now = time.time_ns()
        try:
            status = path.stat()
        except OSError:
            return compute()  # which reports what is wrong with it
        same = [status.st_size, status.st_mtime_ns, status.st_ino]
        known = self._known.get(key)
        if known and known["same"] == same:
            self._used[key] = known
            return known["found"]
        found = compute()
        if now - status.st_mtime_ns >= RACY_NS:
            self._used[key] = {"same": same, "found": found}
        return found

    def save(self) -> None:
        """Write the results that were requested, and only these, if they are not what was read."""
        if self._used != self._known:
            with whole_file(self._path) as temporary:  # on one line: indentation takes ten times as long
                text = json.dumps(self._used)
                temporary.write_text(f"{_digest(text)}\n{text}", encoding="utf-8")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def _file_cache(params: DataParams, cache: Path) -> Iterator[FileCache]:
    source = hashlib.sha256(params.source.encode()).hexdigest()[:16]
    cached = FileCache(cache.parent / "described" / f"{source}.json")
    yield cached
    cached.save()


def _request(file: SourceFile, params: DataParams) -> str:
    """Return everything that the description of a file depends on besides its content."""
    request = [file.name, file.member, params.encoding, params.errors]
    if file.is_table:
        request += [params.text_column, params.id_column, *params.metadata]
    return json.dumps(request)


def _check_sha256(params: DataParams, files: list[SourceFile], sha256: Callable[[Path], str]) -> None:
    if params.sha256 is None:
        return
    outer = {file.path for file in files}
    if len(outer) > 1:
        raise UserError(f"data.sha256: {params.source} is {len(outer)} files; allowed is a sha256 for one file only")
    if (found := sha256(outer.pop())) != params.sha256:
        raise UserError(f"data.sha256: {redacted(params.source)} has {found}, allowed is {params.sha256}")


def _describe_file(
    file: SourceFile, params: DataParams, cache: Path, progress: Callable[[int], None]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if params.encoding == AUTO and file.kind != "parquet":
        start = next(read_chunks(file, Meter(Allowance(params), lambda _: None)), b"")
        found["encoding"] = encoding_of(start, file.name, AUTO)
        params = params.model_copy(update=found)
    meter = Meter(Allowance(params), progress)
    if not file.is_table:
        for _ in decode(read_chunks(file, meter), file.name, params.encoding, params.errors):
            pass
    else:
        if columns := _read_table(file, params, meter, cache):
            found["columns"] = columns
        if (separator := separator_of(file, params)) is not None:
            found["separator"] = separator
    return {
        "entry": {"name": file.name, "bytes": meter.bytes, "sha256": meter.sha256} | found,
        "unpacked": meter.unpacked,
    }


def _read_table(file: SourceFile, params: DataParams, meter: Meter, cache: Path) -> dict[str, str]:
    """Read a table to its end; return the names of its metadata columns with their types."""
    types = dict.fromkeys(params.metadata, "null")
    is_csv = file.kind in {"csv", "tsv"}  # all of its columns are strings
    row = 1
    for block in blocks_of(file, params, meter, scratch=cache):
        if params.errors == "strict":
            refuse_nul(block.column(params.text_column), file.name, row)
        row += block.num_rows
        if not is_csv and params.id_column is not None:
            plain_type(block.column(params.id_column).type, f"data.id_column: {params.id_column!r} of {file.name}")
        for name, known in types.items():
            column = block.column(name)
            if is_csv and known != "string":
                types[name] = written_type(column, known)
            elif not is_csv:
                types[name] = wider(known, plain_type(column.type, f"data.metadata: {name!r} of {file.name}"))
    return types


def describe_speeches(params: DataParams) -> dict[str, Any]:
    """Return the package's version and the selection, which identify the texts: those of a version never change."""
    check_speeches(params)
    return {"source": SOTU, "version": version("sotu"), "select": params.select.model_dump()}


def check_speeches(params: DataParams) -> None:
    """Refuse columns that the corpus does not have."""
    for name in params.metadata:
        if name not in METADATA:
            raise UserError(f"data.metadata: found {name!r}, allowed for sotu are {', '.join(METADATA)}")
    if params.id_column is not None:
        raise UserError(f"data.id_column: found {params.id_column!r}, allowed for sotu is null: speeches have names")

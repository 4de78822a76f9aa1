"""What identifies a source's content, and whether it can be read: the door that bad text does not pass.

Every file is read to its end, decoded, and parsed if it is a table; what was found is remembered for files that do not
change.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError
from pipeline.core.files import sha256_of
from pipeline.params.text import AUTO, DataParams
from pipeline.sources.formats.columns import plain_type, wider, written_type
from pipeline.sources.formats.text import decode, encoding_of
from pipeline.sources.places.finding import SOTU, find_files, shown
from pipeline.sources.places.source_file import Remembered, SourceFile, hold_tables
from pipeline.sources.places.streams import Allowance, Meter, chunks_of
from pipeline.sources.speeches import describe_speeches
from pipeline.sources.table_documents import blocks_of, refuse_nul, separator_of


def describe(
    params: DataParams, *, root: Path, cache: Path, read: Callable[[int], None] = lambda _: None
) -> dict[str, Any]:
    """Return what identifies the source's content, as JSON data: names, sizes and SHA-256 of its files.

    A file of a guessed encoding has that too (`encoding`), a table the types of its metadata (`columns`), and CSV
    whose separator is not the one of its ending has it (`separator`). For sotu it is the package's version and the
    selection. What was found is remembered next to the folder `cache`; `read` is called with the number of bytes that
    are fetched or read.

    UserError if the source is missing, empty or larger than `data.max_gb`, a file is binary, damaged or not in
    `data.encoding`, a column is missing, or the content is not what `data.sha256` says.
    """
    if params.source == SOTU:
        return describe_speeches(params)
    with _remembered(params, cache) as remembered:

        def sha256(path: Path) -> str:
            return str(remembered.get(path, "sha256", partial(sha256_of, path)))

        files = find_files(params, root=root, cache=cache, read=read, sha256=sha256)
        check_columns(params, tables=hold_tables(files, params.source))
        _check_sha256(params, files, sha256)
        allowance = Allowance(params)
        entries = []
        for file in files:
            find = partial(_describe_file, file, params, cache, read)
            found = remembered.get(file.path, _asked(file, params), find)
            allowance.spend(found["unpacked"])
            entries.append(found["entry"])
    if not any(entry["bytes"] for entry in entries):
        raise UserError(f"data.source: {params.source}: empty; allowed is text of at least one character")
    return {"files": entries}


def check_columns(params: DataParams, *, tables: bool) -> None:
    """Refuse the names of columns for files that are text."""
    if tables:
        return
    if params.metadata:
        raise UserError(f"data.metadata: found {', '.join(params.metadata)}, allowed is none: only tables have columns")
    if params.id_column is not None:
        raise UserError(f"data.id_column: found {params.id_column!r}, allowed is null: only tables have columns")


@contextmanager
def _remembered(params: DataParams, cache: Path) -> Iterator[Remembered]:
    source = hashlib.sha256(params.source.encode()).hexdigest()[:16]
    remembered = Remembered(cache.parent / "described" / f"{source}.json")
    yield remembered
    remembered.save()


def _asked(file: SourceFile, params: DataParams) -> str:
    """Return all that the description of a file hangs on, besides its content."""
    asked = [file.name, file.member, params.encoding, params.errors]
    if file.is_table:
        asked += [params.text_column, params.id_column, *params.metadata]
    return json.dumps(asked)


def _check_sha256(params: DataParams, files: list[SourceFile], sha256: Callable[[Path], str]) -> None:
    if params.sha256 is None:
        return
    outer = {file.path for file in files}
    if len(outer) > 1:
        raise UserError(f"data.sha256: {params.source} is {len(outer)} files; allowed is a sha256 for one file only")
    if (found := sha256(outer.pop())) != params.sha256:
        raise UserError(f"data.sha256: {shown(params.source)} has {found}, allowed is {params.sha256}")


def _describe_file(file: SourceFile, params: DataParams, cache: Path, read: Callable[[int], None]) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if params.encoding == AUTO and file.kind != "parquet":
        begin = next(chunks_of(file, Meter(Allowance(params), lambda _: None)), b"")
        said["encoding"] = encoding_of(begin, file.name, AUTO)
        params = params.model_copy(update=said)
    meter = Meter(Allowance(params), read)
    if not file.is_table:
        for _ in decode(chunks_of(file, meter), file.name, params.encoding, params.errors):
            pass
    else:
        if columns := _read_table(file, params, meter, cache):
            said["columns"] = columns
        if (separator := separator_of(file, params)) is not None:
            said["separator"] = separator
    return {
        "entry": {"name": file.name, "bytes": meter.bytes, "sha256": meter.sha256} | said,
        "unpacked": meter.unpacked,
    }


def _read_table(file: SourceFile, params: DataParams, meter: Meter, cache: Path) -> dict[str, str]:
    types = dict.fromkeys(params.metadata, "null")
    written = file.kind in {"csv", "tsv"}
    row = 1
    for block in blocks_of(file, params, meter, scratch=cache):
        if params.errors == "strict":
            refuse_nul(block.column(params.text_column), file.name, row)
        row += block.num_rows
        if not written and params.id_column is not None:
            plain_type(block.column(params.id_column).type, f"data.id_column: {params.id_column!r} of {file.name}")
        for name, known in types.items():
            column = block.column(name)
            if written and known != "string":
                types[name] = written_type(column, known)
            elif not written:
                types[name] = wider(known, plain_type(column.type, f"data.metadata: {name!r} of {file.name}"))
    return types

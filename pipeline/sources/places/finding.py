"""Addresses of texts that lie elsewhere: how they are told, and what their copies here are called.

Passwords and signatures stand before the host or in the query: neither is told, and no name has them.
"""

import glob
import hashlib
import os
import re
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path, PurePosixPath

from pipeline.core.errors import UserError
from pipeline.core.files import sha256_of
from pipeline.params.text import DataParams
from pipeline.sources.places.source_file import ENDINGS, SourceFile, has_known_ending
from pipeline.sources.places.streams import DAMAGE, GB, unreadable

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# File systems allow 255 bytes; the end of a name says what the file holds.
NAME_CHARACTERS = 60
LOGIN = re.compile(r"(?<=://)[^/]*@")


def scheme_of(source: str) -> str | None:
    """Return the scheme of an address in lower case ("https", "s3", …), None for a path."""
    found = SCHEME.match(source)
    return found[1].lower() if found else None


def shown(address: str) -> str:
    """Return an address as it may be told: without login and query."""
    return LOGIN.sub("", address.partition("?")[0])


def kept_name(address: str) -> str:
    """Return the name of the copy of `address`: its hash, a dash, and the file's own name (the end of a long one)."""
    name = PurePosixPath(shown(address).partition("://")[2].partition("/")[2]).name or "download"
    return f"{hash_of(address)}-{name[-NAME_CHARACTERS:]}"


def hash_of(address: str) -> str:
    """Return 16 hexadecimal digits that stand for `address`."""
    return hashlib.sha256(address.encode()).hexdigest()[:16]


def own_name(kept: str) -> str:
    """Return the file's own name, of a name that `kept_name` made."""
    return kept.partition("-")[2]


SOTU = "sotu"
MAGIC = "*?["


def find_files(
    params: DataParams,
    *,
    root: Path,
    cache: Path,
    read: Callable[[int], None] = lambda _: None,
    sha256: Callable[[Path], str] = sha256_of,
) -> list[SourceFile]:
    """Return the files that `data.source` names, sorted by name; never empty.

    Relative paths are relative to `root`; what lies elsewhere is copied to `cache`, `read` is told of the bytes that
    are fetched. `sha256` hashes a file. UserError if there is nothing, or too much. Not for sotu, which is a package
    and no files.
    """
    source, limit = params.source, int(params.max_gb * GB)
    scheme = scheme_of(source)
    if scheme in {"http", "https"}:
        from pipeline.sources.places.download import download  # httpx: only for who fetches

        path = download(source, cache=cache, limit=limit, sha256=params.sha256, read=read, hashed=sha256)
        return _expand(path, own_name(path.name))
    if scheme is not None:
        from pipeline.sources.places.remote import fetch  # fsspec, likewise

        copies = fetch(source, cache=cache, limit=limit, read=read)
        return sorted(
            (file for name, path in copies for file in _expand(path, name)), key=lambda one: one.name
        )  # fmt: skip
    path = root / Path(source).expanduser()
    if path.is_file():
        return _expand(path, _spelt(path.name))
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
        folders[:] = [name for name in folders if not name.startswith(".")]  # which are then not gone into
        place = Path(inner)
        before = "" if place == folder else f"{place.relative_to(folder).as_posix()}/"
        known = (name for name in names if has_known_ending(name) and not name.startswith("."))
        files += [SourceFile(_spelt(before + name), place / name) for name in known if (place / name).is_file()]
    if not files:
        raise UserError(f"data.source: {source}: no files of a known ending ({ENDINGS}); others are taken by a glob")
    return sorted(files, key=lambda file: file.name)


def _matching(source: str, root: Path) -> list[SourceFile]:
    pattern = Path(source).expanduser()
    base = Path(pattern.anchor) if pattern.is_absolute() else root
    names = sorted(
        glob.glob(str(pattern.relative_to(pattern.anchor)), root_dir=base, recursive=True)  # noqa: PTH207  pathlib cannot sort out root_dir
    )
    there = (name for name in names if (base / name).is_file())
    files = [file for name in there for file in _expand(base / name, _spelt(Path(name).as_posix()))]
    if not files:
        raise UserError(f"data.source: {source}: no files match")
    return files


def _expand(path: Path, name: str) -> list[SourceFile]:
    """Return the members of a zip, which is as a folder; of any other file the file itself."""
    if path.suffix.lower() != ".zip":
        return [SourceFile(name, path)]
    try:
        with zipfile.ZipFile(path) as archive:
            members = sorted(info.filename for info in archive.infolist() if not info.is_dir())
    except (*DAMAGE, UnicodeDecodeError) as error:
        raise unreadable(name, error) from None
    if twice := [member for member, after in pairwise(members) if member == after]:
        raise UserError(f"data.source: {name}: holds two files {twice[0]!r}; allowed are distinct names")
    members = [member for member in members if not _is_junk(member)]
    if not members:
        raise UserError(f"data.source: {name}: the zip holds no files")
    # Nobody can name a glob inside a zip: without a known ending, all of its files are text.
    known = [member for member in members if has_known_ending(member)] or members
    return [SourceFile(f"{name}/{member}", path, member) for member in known]


def _is_junk(member: str) -> bool:
    parts = member.split("/")
    return "__MACOSX" in parts or any(part.startswith(".") for part in parts)


def _spelt(name: str) -> str:
    r"""Return the name of a file as text, bytes that are no UTF-8 as \\xe9."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")

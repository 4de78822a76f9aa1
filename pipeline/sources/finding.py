"""Finds the files of a source: a file, folder, glob, zip, https address or store.

Credentials may be in the login or the query of an address; they are never printed or used in file names.
"""

import glob
import hashlib
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path, PurePosixPath

from pipeline.core.errors import UserError, without_secrets
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
    return without_secrets(re.split(r"[?#]", address, maxsplit=1)[0])


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
    base, names = matching_files(source, root)
    files = [file for name in names for file in _expand(base / name, _printable(Path(name).as_posix()))]
    if not files:
        raise UserError(f"data.source: {source}: no files match")
    return files


def matching_files(source: str, root: Path) -> tuple[Path, list[str]]:
    """Return the files that match the glob `source`: the folder that their names are relative to, and the sorted names.

    As in `glob.glob`, but `**` does not follow links to folders: one to a parent folder has no end. The links that the
    glob itself names are followed.
    """
    pattern = Path(source).expanduser()
    base = Path(pattern.anchor) if pattern.is_absolute() else root
    found = {""}
    parts = list(pattern.relative_to(pattern.anchor).parts)
    while parts:
        if parts[0] == "**":
            parts = parts[1:]
            folders = {place for one in found for place in _folders_in(base, one)}
            found = folders if parts else {name for one in folders for name in _glob("*", base, one)}
            continue
        end = parts.index("**") if "**" in parts else len(parts)
        found = {name for one in found for name in _glob("/".join(parts[:end]), base, one)}
        parts = parts[end:]
    return base, sorted(name for name in found if (base / name).is_file())


def _glob(pattern: str, base: Path, folder: str) -> list[str]:
    names = glob.glob(pattern, root_dir=base / folder)  # noqa: PTH207  pathlib has no root_dir
    return [os.path.join(folder, name) for name in names]  # noqa: PTH118  also for folder ""


def _folders_in(base: Path, folder: str) -> Iterator[str]:
    """Yield a folder and all folders in it, relative to `base`, without hidden ones and without following links."""
    for inner, folders, _ in os.walk(base / folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        place = os.path.relpath(inner, base)
        yield "" if place == "." else place


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

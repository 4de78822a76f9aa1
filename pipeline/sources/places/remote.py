"""Files in a store that fsspec knows (S3, GCS, …): each is copied here once, and again when the store has another.

Knows nothing of text. Who may read is the business of the store's driver, which finds its credentials where its own
documentation says; none is named, told or kept here.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from filelock import FileLock
from fsspec.callbacks import Callback
from fsspec.core import url_to_fs

from pipeline.core.errors import UserError, one_line
from pipeline.core.files import read_json, whole_file, write_json
from pipeline.sources.places.finding import hash_of, kept_name, scheme_of, shown
from pipeline.sources.places.source_file import ENDINGS, has_known_ending
from pipeline.sources.places.streams import GB

MAGIC = "*?["
LOCAL = ("file", "local")
# What a store says of a file's content, whichever it is; all that is there is compared.
IDENTITY = (
    "ETag", "etag", "md5Hash", "md5", "content_md5", "checksum", "generation", "VersionId",
    "LastModified", "last_modified", "mtime", "modified", "updated", "created", "size",
)  # fmt: skip


def fetch(
    address: str, *, cache: Path, limit: int, read: Callable[[int], None] = lambda _: None
) -> list[tuple[str, Path]]:
    """Return the files that `address` names (a file, a folder or a glob), by name, and their copies under `cache`.

    When the store cannot be asked, the copies of the last time are used. UserError if there is nothing, more than
    `limit` bytes, or no driver for such an address.
    """
    _refuse_odd(address)
    told = shown(address)
    cache.mkdir(parents=True, exist_ok=True)
    listing = cache / f"{hash_of(address)}.listing.json"
    try:
        with FileLock(cache / ".lock"), _answers(told):  # two experiments may want the same files
            fs, path = url_to_fs(address, skip_instance_cache=True)
            files = _list(fs, path, told)
            if sum(info.get("size") or 0 for info in files.values()) > limit:
                raise UserError(f"data.max_gb: {told} is larger than {limit / GB:g} GB")
            progress = _Progress(told, limit, read)
            copies = [(name, _copy(fs, info, cache, address, progress)) for name, info in files.items()]
    except _AwayError as away:
        try:
            known = read_json(listing)
        except (OSError, ValueError):
            known = {}
        if not known or not all((cache / kept).exists() for kept in known.values()):
            raise UserError(f"data.source: {told}: cannot be fetched: {away}") from None
        return [(name, cache / kept) for name, kept in known.items()]
    write_json(listing, {name: kept.name for name, kept in copies})
    return copies


class _AwayError(Exception):
    """The store did not answer, or not as it should."""


class _Progress(Callback):  # type: ignore[misc]
    """Tells `read` of what comes, and stops what is larger than the store had said."""

    def __init__(self, told: str, limit: int, read: Callable[[int], None]) -> None:
        super().__init__()
        self._told, self._left, self._read = told, limit, read

    def relative_update(self, inc: int = 1) -> None:
        self._left -= inc
        if self._left < 0:
            raise UserError(f"data.max_gb: {self._told} is larger than is allowed")
        self._read(inc)


def _refuse_odd(address: str) -> None:
    if "::" in address:
        raise UserError(f"data.source: {shown(address)}: a chain of addresses (::); allowed is one address")
    if scheme_of(address) in LOCAL:
        raise UserError(f"data.source: {shown(address)}: a file here; allowed is its path, without file://")


@contextmanager
def _answers(told: str) -> Iterator[None]:
    """Turn whatever a driver raises into a UserError, or into `_AwayError` if waiting or a kept copy may help."""
    try:
        yield
    except UserError:
        raise
    except ImportError as error:
        raise UserError(
            f"data.source: {told}: {one_line(error)}; `pip install 'charlm[cloud]'` brings what S3 and GCS need"
        ) from None
    except FileNotFoundError:
        raise UserError(f"data.source: {told}: no such file or folder") from None
    except PermissionError as error:
        raise UserError(f"data.source: {told}: may not be read: {one_line(error)}") from None
    except Exception as error:  # noqa: BLE001  each driver has exceptions of its own
        if isinstance(error, ValueError) and "Protocol not known" in str(error):
            known = "https, s3, gs, and what fsspec lists"
            raise UserError(f"data.source: {told}: unknown kind of address; allowed are {known}") from None
        raise _AwayError(f"{type(error).__name__}: {one_line(error)}") from None


def _list(fs: fsspec.AbstractFileSystem, path: str, told: str) -> dict[str, dict[str, Any]]:
    """Return the files at `path` by their names, each with what the store says of it."""
    if any(mark in path for mark in MAGIC):
        base = PurePosixPath(*_without_magic(PurePosixPath(path)))
        found = fs.glob(path, detail=True)
        why = "no files match"
    else:
        info = fs.info(path)
        if info["type"] != "directory":
            return {PurePosixPath(path).name: info}
        base = PurePosixPath(fs._strip_protocol(path))  # noqa: SLF001  fsspec's own rule of names has no other name
        found = {name: info for name, info in fs.find(path, detail=True).items() if has_known_ending(name)}
        why = f"no files of a known ending ({ENDINGS}); others are taken by a glob"
    files = {
        PurePosixPath(name).relative_to(base).as_posix(): info
        for name, info in sorted(found.items())
        if info["type"] == "file" and not PurePosixPath(name).name.startswith(".")
    }
    if not files:
        raise UserError(f"data.source: {told}: {why}")
    return files


def _without_magic(path: PurePosixPath) -> list[str]:
    parts = []
    for part in path.parts:
        if any(mark in part for mark in MAGIC):
            break
        parts.append(part)
    return parts


def _copy(fs: fsspec.AbstractFileSystem, info: dict[str, Any], cache: Path, address: str, progress: Callback) -> Path:
    """Return the copy of one file, made anew if the store has another one than when it was made."""
    path: str = info["name"]
    kept = cache / kept_name(f"{scheme_of(address)}://{path}")
    state = kept.with_name(f"{kept.name}.store.json")
    said = [f"{key}={info[key]}" for key in IDENTITY if info.get(key) is not None]
    token = hashlib.sha256(" ".join(said).encode()).hexdigest() if len(said) > 1 else fs.ukey(path)
    if kept.exists() and state.exists() and read_json(state) == token:
        return kept
    state.unlink(missing_ok=True)
    with whole_file(kept) as part:
        fs.get_file(path, str(part), callback=progress)
    write_json(state, token)
    return kept

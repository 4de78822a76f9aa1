"""Copies files from https or a store that fsspec knows (S3, GCS, …): once, and again if there is another version.

Credentials for https come from a netrc file or the variable CHARLM_SOURCE_TOKEN; a store's driver finds them where its
own documentation says. None is printed or saved here.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urljoin

import fsspec
from filelock import FileLock
from fsspec.callbacks import Callback
from fsspec.core import url_to_fs

from pipeline.core.errors import UserError, one_line
from pipeline.core.files import read_checked, read_json, sha256_of, whole_file, write_json
from pipeline.sources.files import ENDINGS, GB, has_known_ending
from pipeline.sources.finding import cache_name, hash_of, redacted, scheme_of

TIMEOUT_SECONDS = 30.0
# HTTP statuses after which an earlier copy is not used: the file is gone, or access is denied.
CLIENT_ERRORS = range(400, 500)
NO_ACCESS = (401, 403)
MAGIC = "*?["
SECURE = "https"
TOKEN_VARIABLE = "CHARLM_SOURCE_TOKEN"  # noqa: S105  a name
LOCAL = ("file", "local")
# What stores report about the version of a file; all of these that a store reports are compared.
IDENTITY = (
    "ETag",
    "etag",
    "Last-Modified",
    "Content-MD5",
    "Digest",
    "md5Hash",
    "md5",
    "content_md5",
    "checksum",
    "generation",
    "VersionId",
    "LastModified",
    "last_modified",
    "mtime",
    "modified",
    "updated",
    "created",
    "size",
)


def fetch(
    address: str, *, cache: Path, limit: int, progress: Callable[[int], None] = lambda _: None
) -> list[tuple[str, Path]]:
    """Copy the files that `address` names (a file, folder or glob) into `cache`; return their names and copies.

    If the store is unreachable, the copies of the last time are used. UserError if there are no files, more than
    `limit` bytes, or no driver for such an address.
    """
    _refuse_odd(address)
    source = redacted(address)
    cache.mkdir(parents=True, exist_ok=True)
    listing = cache / f"{hash_of(address)}.listing.json"
    try:
        with FileLock(cache / ".lock"), _reporting_errors(source):  # two experiments may want the same files
            fs, path = url_to_fs(address, skip_instance_cache=True)
            files = _list(fs, path, source)
            if sum(info.get("size") or 0 for info in files.values()) > limit:
                raise UserError(f"data.max_gb: {source} is larger than {limit / GB:g} GB")
            callback = _Progress(source, limit, progress)
            scheme = scheme_of(address)
            copies = [
                (name, _copy(fs, info, cache / cache_name(f"{scheme}://{info['name']}"), callback))
                for name, info in files.items()
            ]
    except _UnreachableError as error:
        try:
            known = read_checked(listing, dict[str, str])
        except UserError:
            known = {}
        if not known or not all((cache / copy).exists() for copy in known.values()):
            raise UserError(f"data.source: {source}: cannot be fetched: {error}") from None
        return [(name, cache / copy) for name, copy in known.items()]
    write_json(listing, {name: copy.name for name, copy in copies})
    return copies


def fetch_url(
    url: str,
    *,
    cache: Path,
    limit: int,
    sha256: str | None = None,
    hash_of_file: Callable[[Path], str] = sha256_of,
    progress: Callable[[int], None] = lambda _: None,
) -> Path:
    """Copy the file at the https address `url` into `cache`; return its copy, named by `cache_name`.

    If the copy has the hash `sha256`, no request is made. If the server is unreachable, an earlier copy is
    used. UserError for http (also after a redirect), an error status, more than `limit` bytes, or another hash.
    """
    source, copy = redacted(url), cache / cache_name(url)
    _require_https(url)
    if sha256 is not None and copy.exists() and hash_of_file(copy) == sha256:
        return copy
    cache.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(cache / ".lock"), _reporting_errors(source):
            fs = _https(url)
            try:
                info = fs.info(url)
            except FileNotFoundError as error:  # fsspec raises it for every failure
                raise error.__cause__ or error from None
            if (info["size"] or 0) > limit:
                raise UserError(f"data.max_gb: {source} is larger than {limit / GB:g} GB")
            return _copy(fs, info, copy, _Progress(source, limit, progress), sha256)
    except _UnreachableError as error:
        if not copy.exists():
            raise UserError(f"data.source: {source}: cannot be fetched: {error}") from None
        return copy


def _https(url: str) -> fsspec.AbstractFileSystem:
    """Return fsspec's file system for https, with timeouts, which refuses redirects to http.

    It sends the token in CHARLM_SOURCE_TOKEN to the server of `url` only, also after a redirect; without a token, the
    login that a netrc file has for a server.
    """
    import aiohttp  # takes 0.2 s to import

    async def check_redirect(_session: Any, _context: Any, params: Any) -> None:
        headers = params.response.headers
        _require_https(urljoin(str(params.url), headers.get("Location") or headers.get("URI") or ""))

    async def add_token(request: aiohttp.ClientRequest, send: Any) -> Any:
        if (token := os.environ.get(TOKEN_VARIABLE)) and request.url.origin() == type(request.url)(url).origin():
            request.headers["Authorization"] = f"Bearer {token}"
        return await send(request)

    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(check_redirect)
    # Without a limit on the total time: a large file may take hours.
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT_SECONDS, sock_read=TIMEOUT_SECONDS)
    options = {"trace_configs": [trace], "timeout": timeout, "middlewares": (add_token,), "trust_env": True}
    return fsspec.filesystem("https", client_kwargs=options, skip_instance_cache=True)


def _require_https(url: str) -> None:
    if scheme_of(url) != SECURE:
        raise UserError(f"data.source: {redacted(url)}: found {scheme_of(url)}, allowed is {SECURE}")


class _UnreachableError(Exception):
    """The store did not answer, or not as it should, so that a cached copy is used if there is one."""


class _Progress(Callback):  # type: ignore[misc]
    """Reports fetched bytes to `progress`, and refuses more than `limit`: a store may have reported less."""

    def __init__(self, source: str, limit: int, progress: Callable[[int], None]) -> None:
        super().__init__()
        self.source, self._left, self._progress = source, limit, progress

    def relative_update(self, inc: int = 1) -> None:
        self._left -= inc
        if self._left < 0:
            raise UserError(f"data.max_gb: {self.source} is larger than allowed")
        self._progress(inc)


def _refuse_odd(address: str) -> None:
    source = redacted(address)
    if "::" in address:
        raise UserError(f"data.source: {source}: a chain of addresses (::); allowed is one address")
    if scheme_of(address) in LOCAL:
        raise UserError(f"data.source: {source}: a file on this machine; allowed is its path, without file://")


@contextmanager
def _reporting_errors(source: str) -> Iterator[None]:
    """Turn a driver's error into a UserError, or into `_UnreachableError` if a later try or a cached copy may help."""
    try:
        yield
    except UserError:
        raise
    except ImportError as error:
        raise UserError(
            f"data.source: {source}: {one_line(error)}; `pip install 'charlm[cloud]'` installs what S3 and GCS need"
        ) from None
    except FileNotFoundError:
        raise UserError(f"data.source: {source}: no such file or folder") from None
    except PermissionError as error:
        raise UserError(f"data.source: {source}: access is denied: {one_line(error)}") from None
    except Exception as error:  # noqa: BLE001  each driver has its own exceptions
        if isinstance(error, ValueError) and "Protocol not known" in str(error):
            known = "https, s3, gs, and what fsspec lists"
            raise UserError(f"data.source: {source}: unknown kind of address; allowed are {known}") from None
        if (status := getattr(error, "status", None)) is None:
            raise _UnreachableError(f"{type(error).__name__}: {one_line(error)}") from None
        message = f"the server answered {status}"
        if status in NO_ACCESS:
            message += f"; credentials belong in a netrc file or in {TOKEN_VARIABLE}"
        if status in CLIENT_ERRORS:
            raise UserError(f"data.source: {source}: {message}") from None
        raise _UnreachableError(message) from None


def _list(fs: fsspec.AbstractFileSystem, path: str, source: str) -> dict[str, dict[str, Any]]:
    """Return the files at `path` by name, each with what the store reports about it."""
    if any(mark in path for mark in MAGIC):
        base = PurePosixPath(*_without_magic(PurePosixPath(path)))
        found = fs.glob(path, detail=True)
        message = "no files match"
    else:
        info = fs.info(path)
        if info["type"] != "directory":
            return {PurePosixPath(path).name: info}
        base = PurePosixPath(fs._strip_protocol(path))  # noqa: SLF001  fsspec has no public name for this
        found = {name: info for name, info in fs.find(path, detail=True).items() if has_known_ending(name)}
        message = f"no files with a known ending ({ENDINGS}); a glob matches others too"
    files = {
        PurePosixPath(name).relative_to(base).as_posix(): info
        for name, info in sorted(found.items())
        if info["type"] == "file" and not PurePosixPath(name).name.startswith(".")
    }
    if not files:
        raise UserError(f"data.source: {source}: {message}")
    return files


def _without_magic(path: PurePosixPath) -> list[str]:
    parts = []
    for part in path.parts:
        if any(mark in part for mark in MAGIC):
            break
        parts.append(part)
    return parts


def _copy(
    fs: fsspec.AbstractFileSystem, info: dict[str, Any], copy: Path, callback: Callback, sha256: str | None = None
) -> Path:
    """Return the copy of one file; it is fetched unless the store has the same version as when it was copied."""
    state = copy.with_name(f"{copy.name}.store.json")
    reported = [f"{key}={info[key]}" for key in IDENTITY if info.get(key) is not None]
    token: str | None = hashlib.sha256(" ".join(reported).encode()).hexdigest()
    if len(reported) <= 1:  # a size alone does not identify a version: ask the driver, that of https knows no more
        token = None if "https" in fs.protocol else fs.ukey(info["name"])
    with suppress(OSError, ValueError):  # no state, or a damaged one
        if token is not None and copy.exists() and read_json(state) == token:
            return copy
    with whole_file(copy) as temporary:
        fs.get_file(info["name"], str(temporary), callback=callback)
        if sha256 is not None and (found := sha256_of(temporary)) != sha256:
            raise UserError(f"data.sha256: {callback.source} has {found}, allowed is {sha256}")
        state.unlink(missing_ok=True)
    write_json(state, token)
    return copy

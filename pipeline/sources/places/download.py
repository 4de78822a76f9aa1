"""Fetching a text over https, once: kept by address, asked again only whether it changed.

A download that was cut short is kept beside (`.partial`) and gone on with, if the server says that it still has the
same file and sends parts of it.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from filelock import FileLock

from pipeline.core.errors import UserError, one_line
from pipeline.core.files import sha256_of, write_json
from pipeline.sources.places.finding import kept_name, shown
from pipeline.sources.places.streams import GB

TIMEOUT_SECONDS = 30.0
# How often a download goes on at once after its connection broke.
TRIES = 3
VALIDATORS = ("etag", "last-modified")


def download(
    url: str,
    *,
    cache: Path,
    limit: int,
    sha256: str | None = None,
    read: Callable[[int], None] = lambda _: None,
    hashed: Callable[[Path], str] = sha256_of,
    transport: httpx.BaseTransport | None = None,
) -> Path:
    """Return a local copy of `url` under `cache`, named as `kept_name` says; at most `limit` bytes.

    With a `sha256` that the kept copy has, nothing is asked. Otherwise a conditional request says whether the copy is
    still current; when the server cannot be reached, a kept copy is used. `read` is told of the bytes that come.
    UserError for http, a failed or too large download, or another sha256. `transport` is for tests.
    """
    if not url.lower().startswith("https://"):
        raise UserError(f"data.source: {shown(url)}: allowed is https, found http")
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / kept_name(url)
    kept = hashed(path) if path.exists() and sha256 is not None else None
    if kept is not None and kept == sha256:
        return path
    with (
        FileLock(cache / ".lock"),  # two experiments may want the same text
        httpx.Client(
            follow_redirects=True,
            timeout=TIMEOUT_SECONDS,
            transport=transport,
            event_hooks={"request": [_https_only]},
        ) as client,
    ):
        fetched = _Download(url, path, client, limit, sha256, read)
        try:
            is_new = fetched.run()
        except httpx.HTTPStatusError as error:
            raise UserError(f"data.source: {shown(url)}: the server answered {error.response.status_code}") from None
        except httpx.RequestError as error:
            if not path.exists():
                raise UserError(f"data.source: {shown(url)}: cannot be fetched: {_why(error)}{fetched.kept}") from None
            is_new = False
    if kept is not None and not is_new:
        raise _other_hash(url, kept, sha256)
    return path


@dataclass
class _Download:
    """One address, its copy at `path`, and what there is of a new one beside."""

    url: str
    path: Path
    client: httpx.Client
    limit: int
    sha256: str | None
    read: Callable[[int], None]

    @property
    def partial(self) -> Path:
        return self.path.with_name(f".{self.path.name}.partial")

    @property
    def state(self) -> Path:
        return self.path.with_name(f"{self.path.name}.http.json")

    @property
    def partial_state(self) -> Path:
        return self.partial.with_name(f"{self.partial.name}.json")

    @property
    def kept(self) -> str:
        size = _size(self.partial)
        return f"; {size:,} bytes are kept, run it again to go on" if size else ""

    def run(self) -> bool:
        """Fetch what is new and return whether anything is; goes on at once if the connection breaks after a part."""
        for left in reversed(range(TRIES)):
            before = _size(self.partial)
            try:
                return self._ask()
            except httpx.TransportError:
                if not left or _size(self.partial) <= before:
                    raise
        raise AssertionError  # the last try returns or raises

    def _ask(self) -> bool:
        size = _size(self.partial)
        part = _read(self.partial_state) if size else {}
        # A weak etag promises no equal bytes, so that it cannot vouch for a part (RFC 9110, 13.1.5).
        vouched = next((part[key] for key in VALIDATORS if part.get(key) and not part[key].startswith("W/")), None)
        # Packed on the way, the bytes of a part would not be those of the file.
        asked = {"Accept-Encoding": "identity"}
        if vouched:
            asked |= {"Range": f"bytes={size}-", "If-Range": vouched}
        elif self.path.exists():
            known = _read(self.state)
            names = zip(VALIDATORS, ("If-None-Match", "If-Modified-Since"), strict=True)
            asked |= {header: known[key] for key, header in names if known.get(key)}
        with self.client.stream("GET", self.url, headers=asked) as answer:
            status = answer.status_code
            if status == httpx.codes.NOT_MODIFIED and self.path.exists():
                return False
            partly = status == httpx.codes.PARTIAL_CONTENT
            goes_on = partly and answer.headers.get("content-range", "").startswith(f"bytes {size}-")
            if not (vouched and (status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE or (partly and not goes_on))):
                answer.raise_for_status()
                if partly and not vouched:
                    raise UserError(f"data.source: {shown(self.url)}: the server answered a part that nobody asked for")
                self._save(answer, size if goes_on else 0)
                return True
        self._drop_part()  # of no use: the whole file is asked for
        return self._ask()

    def _save(self, answer: httpx.Response, size: int) -> None:
        seen = {key: answer.headers.get(key) for key in VALIDATORS}
        if size == 0:
            self._drop_part()
            # A server that packs all the same sends no bytes that a part could go on from.
            write_json(self.partial_state, {} if "content-encoding" in answer.headers else seen)
        with self.partial.open("ab") as file:
            for chunk in answer.iter_bytes():  # as they come: what waits to fill a chunk is lost if it breaks
                size += len(chunk)
                if size > self.limit:
                    self._drop_part()
                    raise UserError(f"data.max_gb: {shown(self.url)} is larger than {self.limit / GB:g} GB")
                file.write(chunk)
                self.read(len(chunk))
        if self.sha256 is not None and (found := sha256_of(self.partial)) != self.sha256:
            self._drop_part()
            raise _other_hash(self.url, found, self.sha256)
        # Killed here, the new file has no state, or the old one none that is not its own.
        self.state.unlink(missing_ok=True)
        self.partial.replace(self.path)
        self.partial_state.unlink(missing_ok=True)
        write_json(self.state, seen)

    def _drop_part(self) -> None:
        self.partial.unlink(missing_ok=True)
        self.partial_state.unlink(missing_ok=True)


def _other_hash(url: str, found: str, allowed: str | None) -> UserError:
    return UserError(f"data.sha256: {shown(url)} has {found}, allowed is {allowed}")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _read(path: Path) -> dict[str, Any]:
    try:
        known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known


def _why(error: Exception) -> str:
    return one_line(error) or type(error).__name__


def _https_only(request: httpx.Request) -> None:
    if request.url.scheme != "https":
        raise UserError(f"data.source: redirected to {request.url.scheme}; allowed is https")

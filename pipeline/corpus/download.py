"""Fetching a text over https, once: kept by address, asked again only whether it changed."""

import hashlib
import json
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import httpx

from pipeline.errors import UserError
from pipeline.files import sha256_of, whole_file, write_json

MAX_BYTES = 4 << 30
TIMEOUT_SECONDS = 30.0


def download(url: str, *, cache: Path, sha256: str | None = None, transport: httpx.BaseTransport | None = None) -> Path:
    """Return a local copy of `url`, named "<16 hex digits>-<file name>" under `cache`.

    With a `sha256` that the kept copy has, nothing is asked. Otherwise a conditional request says whether the copy is
    still current; when the server cannot be reached, a kept copy is used. UserError for http, a failed or too large
    download, or another sha256. `transport` is for tests.
    """
    if not url.startswith("https://"):
        raise UserError(f"data.source: {url}: allowed is https, found http")
    name = PurePosixPath(urlsplit(url).path).name or "download"
    path = cache / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{name}"
    if path.exists() and sha256 is not None and sha256_of(path) == sha256:
        return path
    state = path.with_name(path.name + ".http.json")
    known = json.loads(state.read_text(encoding="utf-8")) if path.exists() and state.exists() else {}
    asked = {"If-None-Match": known["etag"]} if known.get("etag") else {}
    if known.get("last_modified"):
        asked["If-Modified-Since"] = known["last_modified"]
    try:
        with (
            httpx.Client(
                follow_redirects=True,
                timeout=TIMEOUT_SECONDS,
                transport=transport,
                event_hooks={"request": [_https_only]},
            ) as client,
            client.stream("GET", url, headers=asked) as answer,
        ):
            if answer.status_code == httpx.codes.NOT_MODIFIED and path.exists():
                return path
            answer.raise_for_status()
            _save(answer, path, url=url, sha256=sha256)
            seen = {"etag": answer.headers.get("etag"), "last_modified": answer.headers.get("last-modified")}
            write_json(state, seen)
    except httpx.TransportError as error:
        if path.exists():
            return path
        raise UserError(f"data.source: {url}: cannot be fetched: {error}") from None
    except httpx.HTTPStatusError as error:
        raise UserError(f"data.source: {url}: the server answered {error.response.status_code}") from None
    return path


def _save(answer: httpx.Response, path: Path, *, url: str, sha256: str | None) -> None:
    digest, size = hashlib.sha256(), 0
    with whole_file(path) as part:
        with part.open("wb") as file:
            for chunk in answer.iter_bytes(1 << 20):
                size += len(chunk)
                if size > MAX_BYTES:
                    raise UserError(f"data.source: {url}: larger than {MAX_BYTES >> 30} GiB")
                digest.update(chunk)
                file.write(chunk)
        if sha256 is not None and digest.hexdigest() != sha256:
            raise UserError(f"data.sha256: {url} has {digest.hexdigest()}, allowed is {sha256}")


def _https_only(request: httpx.Request) -> None:
    if request.url.scheme != "https":
        raise UserError(f"data.source: redirected to {request.url.scheme}; allowed is https")

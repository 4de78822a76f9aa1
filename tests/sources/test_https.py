"""Fetching from a server on this machine, over http instead of https."""

import base64
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipeline.core.errors import UserError
from pipeline.params.text import DataParams
from pipeline.sources import remote
from pipeline.sources.describe import describe
from pipeline.sources.remote import fetch_url

BODY = bytes(range(97, 123)) * 1000


class Server(ThreadingHTTPServer):
    """Serves `body`; sends only `sends` bytes of it, or `status`, or a redirect to `location`."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.status, self.sends, self.location, self.reported = b"hello", 200, None, None, ("etag", "size")
        self.fetched, self.requests, self.authorized = 0, 0, []

    @property
    def url(self):
        return f"http://user:word@127.0.0.1:{self.server_port}/texts/speech.txt?signature=secret"

    @property
    def plain_url(self):
        return f"http://127.0.0.1:{self.server_port}/texts/speech.txt?download=1"

    def get(self, cache, **options):
        return fetch_url(self.url, cache=cache, **{"limit": 10**6} | options)


class Handler(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.server.requests += 1
        self.server.authorized.append(self.headers.get("Authorization"))
        self.send_response(302 if self.server.location else self.server.status)
        if self.server.location:
            self.send_header("Location", self.server.location)
        if "etag" in self.server.reported:
            self.send_header("ETag", hashlib.sha256(self.server.body).hexdigest())
        if "size" in self.server.reported:
            self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        if self.server.status == 200:
            self.server.fetched += 1
            self.wfile.write(self.server.body[: self.server.sends])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(remote, "SECURE", "http")
    with Server() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()


def files(cache):
    return [path.name for path in cache.iterdir() if path.name != ".lock"]


def test_a_text_is_fetched_once_and_again_when_it_changes(server, tmp_path):
    seen = []
    for _ in range(2):
        path = server.get(tmp_path, progress=seen.append)
        assert path.read_bytes() == b"hello"
    assert path.name.endswith("-speech.txt")
    assert (server.fetched, sum(seen)) == (1, 5)
    server.body = b"other"
    assert server.get(tmp_path).read_bytes() == b"other"


def test_a_text_without_a_version_is_fetched_each_time(server, tmp_path):
    for reported in (("size",), ()):
        server.reported = reported
        for body in (b"hello", b"other"):
            server.body = body
            assert server.get(tmp_path).read_bytes() == body


def test_a_copy_with_the_right_sha256_is_used_without_a_request(server, tmp_path):
    for _ in range(2):
        server.get(tmp_path, sha256=hashlib.sha256(b"hello").hexdigest())
    assert (server.requests, server.fetched) == (2, 1)  # HEAD and GET


def test_a_wrong_sha256_saves_nothing(server, tmp_path):
    with pytest.raises(UserError, match=r"^data.sha256: http://127.*speech.txt has 2cf.*, allowed is 000"):
        server.get(tmp_path, sha256="0" * 64)
    assert not files(tmp_path)
    path = server.get(tmp_path)
    server.body = b"other"
    with pytest.raises(UserError, match=r"^data.sha256: "):
        server.get(tmp_path, sha256="0" * 64)
    assert path.read_bytes() == b"hello"


def test_a_copy_with_a_wrong_sha256_is_refused_if_the_server_has_no_other(server, tmp_path):
    def describe_it(**params):
        return describe(
            DataParams(source=server.plain_url, **params), root=tmp_path, cache=tmp_path / "state/downloads"
        )

    assert describe_it()["files"][0]["name"] == "speech.txt"
    with pytest.raises(UserError, match=r"^data.sha256: http://127.*speech.txt has 2cf.*, allowed is 000"):
        describe_it(sha256="0" * 64)


def test_a_copy_is_used_when_the_server_is_unreachable(server, tmp_path):
    server.get(tmp_path)
    server.status = 503
    assert server.get(tmp_path).read_bytes() == b"hello"
    server.shutdown()
    server.server_close()
    assert server.get(tmp_path).read_bytes() == b"hello"
    with pytest.raises(
        UserError, match=r"^data.source: http://127.*speech.txt: cannot be fetched: ClientConn"
    ) as error:
        server.get(tmp_path / "other")
    assert not {"word", "secret"} & set(str(error.value).replace("=", " ").split())


def test_an_interrupted_download_leaves_nothing(server, tmp_path):
    server.body, server.sends = BODY, 10_000
    with pytest.raises(UserError, match="cannot be fetched: ClientPayloadError"):
        server.get(tmp_path)
    assert not files(tmp_path)


def test_more_than_allowed_is_refused(server, tmp_path):
    server.body = BODY
    for reported in (("etag", "size"), ("etag",)):  # before, and during the download
        server.reported = reported
        with pytest.raises(UserError, match=r"^data.max_gb: .*speech.txt is larger than"):
            server.get(tmp_path, limit=10_000)
    assert not files(tmp_path)


@pytest.mark.parametrize(
    ("status", "message"), [(404, "the server answered 404"), (503, "cannot be fetched: the server answered 503")]
)
def test_errors_are_reported_without_credentials(server, tmp_path, status, message):
    server.status = status
    with pytest.raises(UserError, match=r"^data.source: http://127[\d.:]*/texts/speech.txt: " + message + "$"):
        server.get(tmp_path)


def test_only_https_is_allowed_also_after_a_redirect(server, tmp_path, monkeypatch):
    server.location = "https://example.org/x?signature=secret"
    with pytest.raises(UserError, match=r"^data.source: https://example.org/x: found https, allowed is http$"):
        server.get(tmp_path)
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"^data.source: http://127.*speech.txt: found http, allowed is https"):
        server.get(tmp_path)


@pytest.fixture
def credentials(tmp_path, monkeypatch):
    """A token, and a netrc file with a login for 127.0.0.1 only."""
    path = tmp_path / "netrc"
    path.write_text("machine 127.0.0.1 login me password word\n")
    path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(path))
    monkeypatch.setenv("CHARLM_SOURCE_TOKEN", "t0ken")
    return monkeypatch


def test_credentials_come_from_the_token_or_a_netrc_file(server, tmp_path, credentials):
    fetch_url(server.plain_url, cache=tmp_path / "cache", limit=100)
    assert set(server.authorized) == {"Bearer t0ken"}
    server.authorized.clear()
    credentials.delenv("CHARLM_SOURCE_TOKEN")
    server.body = b"other"
    fetch_url(server.plain_url, cache=tmp_path / "cache", limit=100)
    assert set(server.authorized) == {"Basic " + base64.b64encode(b"me:word").decode()}
    stored = b"".join(path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file())
    assert b"t0ken" not in stored and b"word" not in stored


def test_credentials_do_not_follow_a_redirect_to_another_host(server, tmp_path, credentials):
    with Server() as other:
        threading.Thread(target=other.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        server.location = other.plain_url.replace("127.0.0.1", "localhost")
        fetch_url(server.plain_url, cache=tmp_path / "cache", limit=100)
        other.shutdown()
    assert set(server.authorized) == {"Bearer t0ken"}
    assert set(other.authorized) == {None}


@pytest.mark.parametrize("status", [401, 403])
def test_without_access_the_message_says_where_credentials_belong(server, tmp_path, status):
    server.status = status
    with pytest.raises(UserError, match=f"answered {status}; credentials belong in a netrc file or in CHARLM_SOURCE_"):
        server.get(tmp_path)

import hashlib

import httpx
import pytest

from pipeline.core.errors import UserError
from pipeline.sources.places import download as module
from pipeline.sources.places.download import download

URL = "https://user:word@example.org/texts/speech.txt?signature=secret"
BODY = bytes(range(97, 123)) * 1000


class Broken(httpx.SyncByteStream):
    """A body of which only the first bytes come."""

    def __init__(self, body, after):
        self.body, self.after = body, after

    def __iter__(self):
        yield self.body[: self.after]
        raise httpx.ReadError("broken")


class Server:
    """Answers with `body`, 304 to who has it, and parts to who asks; breaks off after `breaks` bytes."""

    def __init__(self, body=b"hello", status=200, *, ranges=True, breaks=None):
        self.body, self.status, self.ranges, self.breaks = body, status, ranges, breaks
        self.requests, self.down = [], False

    @property
    def etag(self):
        return f'"{hashlib.sha256(self.body).hexdigest()[:8]}"'

    def __call__(self, request):
        self.requests.append(request)
        if self.down:
            raise httpx.ConnectError("down", request=request)
        asked = request.headers
        if asked.get("if-none-match") == self.etag:
            return httpx.Response(304)
        headers, status, body = {"etag": self.etag}, self.status, self.body
        if self.ranges and asked.get("if-range") == self.etag:
            start = int(asked["range"].removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                return httpx.Response(416)
            headers["content-range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            status, body = 206, body[start:]
        if self.breaks is not None and self.breaks < len(body):
            return httpx.Response(status, headers=headers, stream=Broken(body, self.breaks))
        return httpx.Response(status, headers=headers, content=body)

    def get(self, cache, **options):
        return download(URL, cache=cache, transport=httpx.MockTransport(self), **{"limit": 10**6} | options)


def left(cache):
    return [path.name for path in cache.iterdir() if path.name != ".lock"]


def test_a_text_is_fetched_once_and_then_only_asked_for_changes(tmp_path):
    server, seen = Server(), []
    path = server.get(tmp_path, read=seen.append)
    assert path.read_bytes() == b"hello"
    assert path.name.endswith("-speech.txt")
    assert server.get(tmp_path, read=seen.append).read_bytes() == b"hello"
    assert server.requests[1].headers["if-none-match"] == server.etag
    assert seen == [5]
    server.body = b"other"
    assert server.get(tmp_path).read_bytes() == b"other"


def test_with_the_right_sha256_nothing_is_asked_again(tmp_path):
    server, sha256 = Server(), hashlib.sha256(b"hello").hexdigest()
    server.get(tmp_path, sha256=sha256)
    server.get(tmp_path, sha256=sha256)
    assert len(server.requests) == 1


def test_a_wrong_sha256_keeps_nothing_new(tmp_path):
    with pytest.raises(UserError, match=r"^data.sha256: "):
        Server().get(tmp_path, sha256="0" * 64)
    assert not left(tmp_path)
    path = Server().get(tmp_path)
    for server in (Server(), Server(b"other")):
        with pytest.raises(UserError, match=r"^data.sha256: "):
            server.get(tmp_path, sha256="0" * 64)
    assert path.read_bytes() == b"hello"


def test_a_kept_copy_serves_when_the_server_is_away(tmp_path):
    server = Server()
    server.get(tmp_path)
    server.down = True
    assert server.get(tmp_path).read_bytes() == b"hello"


def test_a_broken_download_goes_on_at_once(tmp_path):
    server, seen = Server(BODY, breaks=10_000), []
    assert server.get(tmp_path, read=seen.append).read_bytes() == BODY
    assert [request.headers.get("range") for request in server.requests] == [None, "bytes=10000-", "bytes=20000-"]
    assert sum(seen) == len(BODY)


class TestAPart:
    @pytest.fixture
    def server(self, tmp_path, monkeypatch):
        monkeypatch.setattr(module, "TRIES", 1)
        server = Server(BODY, breaks=10_000)
        with pytest.raises(UserError, match="broken; 10,000 bytes are kept, run it again to go on"):
            server.get(tmp_path)
        server.breaks = None
        return server

    def test_is_gone_on_with_and_the_whole_is_checked(self, server, tmp_path):
        assert server.get(tmp_path, sha256=hashlib.sha256(BODY).hexdigest()).read_bytes() == BODY
        assert server.requests[-1].headers["range"] == "bytes=10000-"
        assert len(left(tmp_path)) == 2

    def test_of_another_text_is_dropped(self, server, tmp_path):
        server.body = BODY[::-1]
        assert server.get(tmp_path).read_bytes() == BODY[::-1]

    def test_is_dropped_if_the_server_sends_none(self, server, tmp_path):
        server.ranges = False
        assert server.get(tmp_path).read_bytes() == BODY

    def test_that_is_too_long_is_dropped(self, server, tmp_path):
        (part,) = tmp_path.glob(".*.partial")
        part.write_bytes(BODY)
        assert server.get(tmp_path).read_bytes() == BODY
        assert len(server.requests) == 3

    def test_without_a_strong_etag_is_dropped(self, server, tmp_path):
        (state,) = tmp_path.glob(".*.partial.json")
        state.write_text('{"etag": "W/\\"1\\""}')
        assert server.get(tmp_path).read_bytes() == BODY
        assert "range" not in server.requests[-1].headers


def test_more_than_allowed_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"^data.max_gb: .*speech.txt is larger than 1e-05 GB"):
        Server(BODY).get(tmp_path, limit=10_000)
    assert not left(tmp_path)


def test_errors_are_told_without_passwords(tmp_path):
    server = Server()
    server.down = True
    with pytest.raises(UserError, match=r"data.source: https://example.org/texts/speech.txt: cannot be fetched: down"):
        server.get(tmp_path)
    with pytest.raises(UserError, match=r"speech.txt: the server answered 404"):
        Server(status=404).get(tmp_path)
    with pytest.raises(UserError, match="the server answered a part"):
        Server(status=206).get(tmp_path)
    with pytest.raises(UserError, match="allowed is https"):
        download("http://example.org/x", cache=tmp_path, limit=1)


def test_an_answer_that_cannot_be_unpacked_is_told(tmp_path):
    def packed(request):
        return httpx.Response(200, headers={"content-encoding": "gzip"}, content=iter([b"no gzip"]))

    with pytest.raises(UserError, match=r"example.org/texts/speech.txt: cannot be fetched: ") as told:
        download(URL, cache=tmp_path, limit=1000, transport=httpx.MockTransport(packed))
    assert "word" not in str(told.value)


def test_a_redirect_to_http_is_refused(tmp_path):
    def redirect(_):
        return httpx.Response(302, headers={"location": "http://example.org/x"})

    with pytest.raises(UserError, match="redirected to http"):
        download(URL, cache=tmp_path, limit=1, transport=httpx.MockTransport(redirect))

import hashlib

import httpx
import pytest

from pipeline.corpus.download import download
from pipeline.errors import UserError

URL = "https://example.org/texts/speech.txt"


class Server:
    """Answers with `body`, and 304 to who has it."""

    def __init__(self, body=b"hello", status=200):
        self.body, self.status, self.requests, self.down = body, status, [], False

    def __call__(self, request):
        self.requests.append(request)
        if self.down:
            raise httpx.ConnectError("down", request=request)
        if request.headers.get("if-none-match") == '"1"':
            return httpx.Response(304)
        return httpx.Response(self.status, content=self.body, headers={"etag": '"1"'})

    def get(self, cache, **options):
        return download(URL, cache=cache, transport=httpx.MockTransport(self), **options)


def test_a_text_is_fetched_once_and_then_only_asked_for_changes(tmp_path):
    server = Server()
    path = server.get(tmp_path)
    assert path.read_bytes() == b"hello"
    assert path.name.endswith("-speech.txt")
    server.body = b"other"
    assert server.get(tmp_path).read_bytes() == b"hello"
    assert server.requests[1].headers["if-none-match"] == '"1"'


def test_with_the_right_sha256_nothing_is_asked_again(tmp_path):
    server, sha256 = Server(), hashlib.sha256(b"hello").hexdigest()
    server.get(tmp_path, sha256=sha256)
    server.get(tmp_path, sha256=sha256)
    assert len(server.requests) == 1


def test_a_wrong_sha256_keeps_nothing(tmp_path):
    with pytest.raises(UserError, match=r"^data.sha256: "):
        Server().get(tmp_path, sha256="0" * 64)
    assert not list(tmp_path.iterdir())


def test_a_kept_copy_serves_when_the_server_is_away(tmp_path):
    server = Server()
    server.get(tmp_path)
    server.down = True
    assert server.get(tmp_path).read_bytes() == b"hello"


def test_errors_are_told(tmp_path):
    server = Server()
    server.down = True
    with pytest.raises(UserError, match="cannot be fetched"):
        server.get(tmp_path)
    with pytest.raises(UserError, match="answered 404"):
        Server(status=404).get(tmp_path)
    with pytest.raises(UserError, match="allowed is https"):
        download("http://example.org/x", cache=tmp_path)


def test_a_redirect_to_http_is_refused(tmp_path):
    def redirect(_):
        return httpx.Response(302, headers={"location": "http://example.org/x"})

    with pytest.raises(UserError, match="redirected to http"):
        download(URL, cache=tmp_path, transport=httpx.MockTransport(redirect))

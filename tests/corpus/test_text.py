import pytest

from pipeline.corpus.text import decode
from pipeline.errors import UserError


def test_line_ends_and_byte_order_marks():
    assert decode(b"\xef\xbb\xbfa\r\nb\rc\n", "x") == "a\nb\nc\n"
    assert decode("é".encode("utf-16"), "x", "utf-16") == "é"


def test_invalid_utf8_says_where():
    with pytest.raises(
        UserError, match=r"speech.txt: invalid utf-8 at byte 3 \(0xff\); set data.encoding, or data.errors"
    ):
        decode(b"abc\xff", "speech.txt")


def test_what_is_invalid_can_be_allowed():
    assert decode(b"abc\xff", "x", errors="ignore") == "abc"
    assert decode(b"abc\xff", "x", errors="replace") == "abc\ufffd"
    assert decode(b"abc\xe9", "x", "latin-1") == "abcé"


def test_binary_files_are_refused():
    with pytest.raises(UserError, match=r"a binary file \(NUL at byte 1\)"):
        decode(b"a\0b", "x")

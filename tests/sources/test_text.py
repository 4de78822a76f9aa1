import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import UserError
from pipeline.sources.decoding import decode, guess_encoding

RUSSIAN = "Широка страна моя родная, много в ней лесов, полей и рек.\n" * 20


def decoded(content, name="x", encoding="utf-8", errors="strict", size=None):
    step = size or max(len(content), 1)
    chunks = (content[start : start + step] for start in range(0, len(content), step))
    return b"".join(decode(chunks, name, encoding, errors)).decode()


def test_line_ends_and_byte_order_marks():
    assert decoded(b"\xef\xbb\xbfa\r\nb\rc\n") == "a\nb\nc\n"
    assert decoded(b"\xef\xbb\xbfa", encoding="utf-8-sig") == "a"
    assert decoded("é".encode("utf-16"), encoding="utf-16") == "é"
    assert decoded("\ufeffé".encode("utf-16-be"), encoding="utf-16-be") == "é"
    assert decoded(b"") == ""


def test_invalid_utf8_is_reported_with_its_place():
    with pytest.raises(
        UserError, match=r"speech.txt: invalid utf-8 at byte 3 \(0xff\); set data.encoding, or data.errors"
    ):
        decoded(b"abc\xff", "speech.txt")


def test_invalid_bytes_can_be_allowed():
    assert decoded(b"abc\xff", errors="ignore") == "abc"
    assert decoded(b"abc\xff", errors="replace") == "abc\ufffd"
    assert decoded(b"abc\xe9", encoding="latin-1") == "abcé"


def test_binary_files_are_refused_unless_allowed():
    for encoding in ("utf-8", "latin-1"):
        with pytest.raises(UserError, match=r"a binary file \(NUL at byte 1\)"):
            decoded(b"a\0b", encoding=encoding)
    with pytest.raises(UserError, match=r"a binary file \(NUL at character 2\)"):
        decoded("aé\0b".encode("utf-16"), encoding="utf-16", size=3)
    assert decoded(b"a\0b", errors="ignore") == "ab"
    assert decoded(b"a\0b", errors="replace") == "a\ufffdb"


def test_a_byte_order_mark_of_another_encoding_is_reported():
    for encoding in ("utf-8", "latin-1"):
        with pytest.raises(UserError, match=r"begins with the byte order mark of utf-16; set data.encoding to utf-16"):
            decoded("text".encode("utf-16"), encoding=encoding)


@given(
    st.text(st.sampled_from("ab\r\né\u2019世🚀\ufeff"), max_size=30),
    st.sampled_from(["utf-8", "utf-16", "utf-16-le", "utf-32", "gb18030"]),
    st.integers(1, 9),
)
def test_any_chunks_give_the_same_text(text, encoding, size):
    content = text.encode(encoding)
    assert decoded(content, encoding=encoding, size=size) == decoded(content, encoding=encoding)


@given(st.binary(max_size=40), st.sampled_from(["strict", "replace", "ignore"]), st.integers(1, 9))
def test_any_chunks_of_any_bytes_give_the_same_result(content, errors, size):
    def outcome(**options):
        try:
            return decoded(content, errors=errors, **options)
        except UserError as error:
            return str(error)

    found = outcome(size=size)
    # If there are several errors, another one may be found first.
    if not found.startswith("data.source") or b"\0" not in content:
        assert found == outcome()


@given(st.binary(max_size=20), st.integers(1, 5))
def test_the_reported_byte_is_the_first_invalid_one(content, size):
    content = content.replace(b"\0", b"x")
    try:
        content.decode()
    except UnicodeDecodeError as error:
        with pytest.raises(UserError, match=rf"at byte {error.start} \(0x{content[error.start]:02x}\)|byte order mark"):
            decoded(content, size=size)


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        (b"plain", "utf-8"),
        ("é" * 5000, "utf-8"),
        (codecs.BOM_UTF8 + b"x", "utf-8"),
        (RUSSIAN.encode("utf-16"), "utf-16"),
        (RUSSIAN.encode("utf-16-le"), "utf-16-le"),
        (RUSSIAN.encode("utf-16-be"), "utf-16-be"),
        (RUSSIAN.encode("cp1251"), "cp1251"),
        (b"\x7fELF\x02\x01\x01\0\0\0\0\0", "utf-8"),
    ],
)
def test_encodings_are_guessed(content, encoding):
    content = content.encode() if isinstance(content, str) else content
    assert guess_encoding(content) == encoding


def test_auto_decodes_with_the_guessed_encoding():
    assert decoded(RUSSIAN.encode("cp1251"), encoding="auto", size=1000) == RUSSIAN
    with pytest.raises(UserError, match="a binary file"):
        decoded(b"\x7fELF\x02\x01\x01\0\0\0\0\0", encoding="auto")

"""Decodes a file's bytes to UTF-8 text with uniform line ends; guesses its encoding under `data.encoding: auto`."""

import codecs
from collections.abc import Iterable, Iterator

import pyarrow as pa

from pipeline.core.errors import UserError
from pipeline.params.text import AUTO

# Longer marks first: the one of utf-32 begins with the one of utf-16.
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
WIDE = ("utf-16", "utf-32")
# Chosen if several encodings fit equally well: Latin-1 with the quotes and dashes that Windows writes.
USUAL = "cp1252"
GUESSED_FROM = 1 << 20
# English in utf-16 has a zero in nearly every second byte, Russian at least at spaces and line ends.
ZEROS = 1 / 16


def is_wide(encoding: str) -> bool:
    """Return whether a zero byte is part of ordinary text in `encoding`."""
    return codecs.lookup(encoding).name.startswith(WIDE)


def guess_encoding(content: bytes) -> str | None:
    """Return the probable encoding of a file that begins with `content`, None if there is none.

    A byte order mark decides; valid UTF-8 is UTF-8; otherwise charset-normalizer guesses from the text. A binary file
    is "utf-8": the decoder then reports what is wrong with it.
    """
    sample = content[:GUESSED_FROM]
    for mark, encoding in BYTE_ORDER_MARKS:
        if sample.startswith(mark):
            return encoding
    if b"\0" in sample:
        return _guess_wide(sample)
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)  # its last character may be cut
    except UnicodeDecodeError:
        from charset_normalizer import from_bytes  # takes 0.1 s to import

        # Up to the end of a line, so that no character is cut.
        matches = from_bytes(sample[: sample.rfind(b"\n") + 1] or sample)
        best = matches.best()
        if best is None:
            return None
        as_good = [one for one in matches if (one.chaos, one.coherence) == (best.chaos, best.coherence)]
        return USUAL if any(USUAL in one.could_be_from_charset for one in as_good) else best.encoding
    return "utf-8"


def _guess_wide(sample: bytes) -> str:
    even, odd = (sample[start::2].count(0) for start in (0, 1))
    if odd > ZEROS * len(sample) / 2 and even * 8 < odd:
        return "utf-16-le"
    if even > ZEROS * len(sample) / 2 and odd * 8 < even:
        return "utf-16-be"
    return "utf-8"


BOM = codecs.BOM_UTF8
NUL = "\0"
# What replaces NUL and invalid bytes under `data.errors`.
INSTEAD = {"replace": "\ufffd", "ignore": ""}


def decode(chunks: Iterable[bytes], name: str, encoding: str = "utf-8", errors: str = "strict") -> Iterator[bytes]:
    """Yield the text of `chunks` as UTF-8, with no character split between two yields; the cuts do not affect the text.

    UserError with the file and the place of the byte if the content is binary (contains NUL) or not in `encoding`.
    With `auto`, the encoding is guessed from the first chunk.
    """
    stream = iter(chunks)
    first = next(stream, b"")
    return _line_ends(_decode(first, stream, name, encoding_of(first, name, encoding), errors))


def encoding_of(first: bytes, name: str, encoding: str) -> str:
    """Return the encoding of a file that begins with `first`: `encoding`, guessed if that is `auto`."""
    if encoding != AUTO:
        return encoding
    guessed = guess_encoding(first)
    if guessed is None:
        raise UserError(f"data.encoding: found auto, but the encoding of {name} cannot be guessed; allowed is its name")
    return guessed


class Utf8:
    """Passes on valid UTF-8, whole characters at a time; raises UnicodeDecodeError like the codec.

    The text is only validated: decoding and encoding it again would take four times as long.
    """

    def __init__(self) -> None:
        self._held = b""

    def decode(self, data: bytes, *, final: bool) -> bytes:
        """Return the whole characters of what was held back before and of `data`."""
        data = self._held + data if self._held else data
        end = len(data) if final else _whole_characters(data)
        self._held, whole = data[end:], data[:end]
        if not whole.isascii():
            buffers = [None, pa.py_buffer(pa.array([0, len(whole)], pa.int64()).buffers()[1]), pa.py_buffer(whole)]
            try:
                pa.Array.from_buffers(pa.large_string(), 1, buffers).validate(full=True)
            except pa.ArrowInvalid:
                data.decode("utf-8")  # raises the error with the place
                raise
        return whole


class Codec:
    """Decodes with one of Python's codecs, and encodes as UTF-8."""

    def __init__(self, codec: str, errors: str) -> None:
        self._decoder = codecs.getincrementaldecoder(codec)(errors)

    def decode(self, data: bytes, *, final: bool) -> bytes:
        """Return the text of what was held back before and of `data`."""
        return self._decoder.decode(data, final).encode("utf-8", "replace")


def _decode(first: bytes, rest: Iterator[bytes], name: str, encoding: str, errors: str) -> Iterator[bytes]:
    # Without "-sig": the mark is removed below, and the decoder of "-sig" counts bytes from after the mark.
    codec = codecs.lookup(encoding).name.removesuffix("-sig")
    try:
        decoder = Utf8() if (codec, errors) == ("utf-8", "strict") else Codec(codec, errors)
    except LookupError:
        raise UserError(f"data.encoding: found {encoding!r}, allowed is an encoding of streams (utf-8, …)") from None
    wide, strict = is_wide(encoding), errors == "strict"
    data, fed, characters, begun = first, 0, 0, False
    while True:
        if strict and not wide and (at := data.find(b"\0")) >= 0:
            raise UserError(f"data.source: {name}: {_binary(fed + at, first)}")
        final = not data
        try:
            text = decoder.decode(data, final=final)
        except UnicodeError as error:
            raise _decoding_error(error, fed + len(data), name, encoding, first) from None
        if text and not begun:
            text, begun = text.removeprefix(BOM), True
        if (wide or not strict) and b"\0" in text:
            if strict:
                at = characters + len(text[: text.index(b"\0")].decode())
                raise UserError(f"data.source: {name}: a binary file (NUL at character {at}); allowed is text")
            text = text.replace(b"\0", INSTEAD[errors].encode())
        if text:
            characters += len(text.decode()) if wide else 0
            yield text
        if final:
            return
        fed += len(data)
        data = next(rest, b"")


def _whole_characters(data: bytes) -> int:
    """Return the number of bytes of `data` in whole characters, if it is UTF-8: all except at most the last three."""
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte >= 0xC0:
            follow = 1 if byte < 0xE0 else 2 if byte < 0xF0 else 3
            return len(data) - back if back <= follow else len(data)
        if byte < 0x80:
            break
    return len(data)


def _line_ends(chunks: Iterable[bytes]) -> Iterator[bytes]:
    waiting = False  # a "\r" that may be the first half of "\r\n"
    for chunk in chunks:
        text = b"\r" + chunk if waiting else chunk
        waiting = text.endswith(b"\r")
        if b"\r" in text:
            if waiting:
                text = text[:-1]
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if text:
            yield text
    if waiting:
        yield b"\n"


def _decoding_error(error: UnicodeError, fed: int, name: str, encoding: str, first: bytes) -> UserError:
    """Return the error to raise for the error of a decoder that was given `fed` bytes."""
    if not isinstance(error, UnicodeDecodeError):  # UTF-16 and UTF-32 without a byte order mark
        return UserError(f"data.encoding: found {encoding}, but {name}: {error}; allowed is for example utf-16-le")
    # error.object is the last bytes that the decoder was given, with those that it had held back before.
    at = fed - len(error.object) + error.start
    return UserError(f"data.source: {name}: {_invalid(encoding, at, error.object[error.start], first)}")


def _binary(at: int, first: bytes) -> str:
    return _other_mark(first) or f"a binary file (NUL at byte {at}); allowed is text"


def _invalid(encoding: str, at: int, byte: int, first: bytes) -> str:
    return (None if is_wide(encoding) else _other_mark(first)) or (
        f"invalid {encoding} at byte {at} (0x{byte:02x}); set data.encoding, or data.errors to replace or ignore"
    )


def _other_mark(first: bytes) -> str | None:
    """Return the message for a file that begins with the byte order mark of utf-16 or utf-32, None for others."""
    for mark, encoding in BYTE_ORDER_MARKS:
        if first.startswith(mark) and is_wide(encoding):
            return f"begins with the byte order mark of {encoding}; set data.encoding to {encoding}, or to auto"
    return None

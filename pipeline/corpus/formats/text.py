r"""Bytes to text, chunk by chunk: decoding that says exactly what is wrong and where.

A byte order mark is removed, line ends become "\n". Knows nothing about files; never holds more than two chunks.
"""

import codecs
from collections.abc import Iterable, Iterator

from pipeline.corpus.formats.encodings import BYTE_ORDER_MARKS, guess_encoding, is_wide
from pipeline.errors import UserError
from pipeline.params.data import AUTO

BOM = "\ufeff"
NUL = "\0"
# What becomes of a NUL, and of bytes that are no text, under `data.errors`.
INSTEAD = {"replace": "\ufffd", "ignore": ""}


def decode(chunks: Iterable[bytes], name: str, encoding: str = "utf-8", errors: str = "strict") -> Iterator[str]:
    """Yield the text of `chunks`; how the bytes are cut into chunks changes nothing of it.

    UserError names the file, and the byte if the content is binary (holds NUL) or not in `encoding`. `auto` is guessed
    from the first chunk.
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
        raise UserError(f"data.encoding: found auto, but that of {name} cannot be guessed; allowed is its name")
    return guessed


def without_nul(text: str, errors: str) -> str:
    """Return `text` without NULs, as `errors` (replace or ignore) says."""
    return text.replace(NUL, INSTEAD[errors])


def _decode(first: bytes, rest: Iterator[bytes], name: str, encoding: str, errors: str) -> Iterator[str]:
    # Without "-sig": the mark is removed here, and its decoder counts bytes from behind the mark.
    codec = codecs.lookup(encoding).name.removesuffix("-sig")
    try:
        decoder = codecs.getincrementaldecoder(codec)(errors)
    except LookupError:
        raise UserError(f"data.encoding: found {encoding!r}, allowed is an encoding of streams (utf-8, …)") from None
    wide, strict = is_wide(encoding), errors == "strict"
    data, fed, characters, begun = first, 0, 0, False
    while True:
        if strict and not wide and (at := data.find(b"\0")) >= 0:
            raise UserError(f"data.source: {name}: {_binary(fed + at, first)}")
        final = not data
        try:
            text = decoder.decode(data, final)
        except UnicodeDecodeError as error:
            # The decoder gives what it was fed and what it still held before that.
            at = fed + len(data) - len(error.object) + error.start
            byte = error.object[error.start]
            raise UserError(f"data.source: {name}: {_invalid(encoding, at, byte, first)}") from None
        if text and not begun:
            text, begun = text.removeprefix(BOM), True
        if (wide or not strict) and NUL in text:
            if strict:
                at = characters + text.index(NUL)
                raise UserError(f"data.source: {name}: a binary file (NUL at character {at}); allowed is text")
            text = without_nul(text, errors)
        if text:
            characters += len(text)
            yield text
        if final:
            return
        fed += len(data)
        data = next(rest, b"")


def _line_ends(chunks: Iterable[str]) -> Iterator[str]:
    waiting = False  # a "\r" that may be the first half of "\r\n"
    for chunk in chunks:
        text = "\r" + chunk if waiting else chunk
        waiting = text.endswith("\r")
        if "\r" in text:
            if waiting:
                text = text[:-1]
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        if text:
            yield text
    if waiting:
        yield "\n"


def _binary(at: int, first: bytes) -> str:
    return _other_mark(first) or f"a binary file (NUL at byte {at}); allowed is text"


def _invalid(encoding: str, at: int, byte: int, first: bytes) -> str:
    return (None if is_wide(encoding) else _other_mark(first)) or (
        f"invalid {encoding} at byte {at} (0x{byte:02x}); set data.encoding, or data.errors to replace or ignore"
    )


def _other_mark(first: bytes) -> str | None:
    """Return what to say of a file that begins with the byte order mark of utf-16 or utf-32."""
    for mark, encoding in BYTE_ORDER_MARKS:
        if first.startswith(mark) and is_wide(encoding):
            return f"begins with the byte order mark of {encoding}; set data.encoding to {encoding}, or to auto"
    return None

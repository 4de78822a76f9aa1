"""Bytes to text: decoding that says exactly what is wrong and where."""

from pipeline.errors import UserError

# Encodings in which a zero byte is part of ordinary text.
WIDE = ("utf-16", "utf_16", "utf16", "utf-32", "utf_32", "utf32")


def decode(content: bytes, name: str, encoding: str = "utf-8", errors: str = "strict") -> str:
    r"""Return `content` as text: a byte order mark removed, line ends "\n".

    UserError names the file, and the byte if the content is binary (holds NUL) or not in `encoding`.
    """
    wide = encoding.lower().startswith(WIDE)
    if not wide and (at := content.find(b"\0")) >= 0:
        raise UserError(f"data.source: {name}: a binary file (NUL at byte {at}); allowed is text")
    try:
        text = content.decode(encoding, errors)
    except UnicodeDecodeError as error:
        raise UserError(
            f"data.source: {name}: invalid {encoding} at byte {error.start} (0x{content[error.start]:02x}); "
            "set data.encoding, or data.errors to replace or ignore"
        ) from None
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")

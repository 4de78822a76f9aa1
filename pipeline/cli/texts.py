"""Reading a text that a command was given: a file, or standard input."""

import sys
from pathlib import Path

from pipeline.errors import UserError

MAX_BYTES = 1 << 30


def read_text(path: Path | None) -> str:
    """Return the text of `path`, UTF-8; of standard input for "-" or None. UserError if it cannot be read."""
    name = "standard input" if path is None or str(path) == "-" else str(path)
    try:
        if name != "standard input":
            with Path(name).open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        else:
            content = sys.stdin.buffer.read(MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f"{name}: {(error.strerror or str(error)).lower()}") from None
    if len(content) > MAX_BYTES:
        raise UserError(f"{name}: more than {MAX_BYTES:,} bytes, allowed is a text of at most that")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: not UTF-8 (byte {error.start:,})") from None

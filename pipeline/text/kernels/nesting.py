"""Finds lines of JSON that are nested too deeply: a recursive parser would overflow its stack on them."""

from pipeline.core.kernel_cache import kernel

QUOTE, BACKSLASH, NEWLINE = 0x22, 0x5C, 0x0A
OPENING, CLOSING = (0x5B, 0x7B), (0x5D, 0x7D)


@kernel
def line_nested_too_deeply(data, limit):
    """Return the first line (from 0) of JSON lines, uint8 [n], with more than `limit` open brackets; -1 if none."""
    line, depth, quoted, escaped = 0, 0, False, False
    for at in range(len(data)):
        byte = data[at]
        if byte == NEWLINE:
            line, depth, quoted, escaped = line + 1, 0, False, False
        elif quoted:
            quoted = escaped or byte != QUOTE
            escaped = byte == BACKSLASH and not escaped
        elif byte == QUOTE:
            quoted = True
        elif byte in OPENING:
            depth += 1
            if depth > limit:
                return line
        elif byte in CLOSING:
            depth -= 1
    return -1

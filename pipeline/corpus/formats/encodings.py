"""Encodings: which have zero bytes in ordinary text, and which one a file probably has."""

import codecs

# The longer marks first: that of utf-32 begins with that of utf-16.
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
WIDE = ("utf-16", "utf-32")
# Of several that fit as well. It is Latin-1 with the quotes and dashes that Windows writes.
USUAL = "cp1252"
GUESSED_FROM = 1 << 20
# English in utf-16 has a zero in nearly every second byte, Russian at least at spaces and line ends.
ZEROS = 1 / 16


def is_wide(encoding: str) -> bool:
    """Return whether a zero byte is part of ordinary text in `encoding`."""
    return codecs.lookup(encoding).name.startswith(WIDE)


def guess_encoding(content: bytes) -> str | None:
    """Return the probable encoding of a file that begins with `content`, None if there is none.

    A byte order mark says it; what is valid UTF-8 is taken for it; else charset-normalizer looks at the text. A binary
    file is "utf-8": the decoder says what is wrong with it.
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
        from charset_normalizer import from_bytes  # 0.1 s, for who guesses

        # At a line's end no character is cut.
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

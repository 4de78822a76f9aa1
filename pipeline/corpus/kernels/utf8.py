"""Counting, rewriting and encoding the characters of a text; what becomes of each stands in tables over code points."""

import numpy as np

from pipeline.compiling import entry, part

CODES = 0x110000
ASCII = 0x80


@part
def decode(data, at):
    """Return the code point that begins at byte `at`, and where the next one begins."""
    lead = np.int64(data[at])
    if lead < 0x80:
        return lead, at + 1
    if lead < 0xE0:
        return (lead & 0x1F) << 6 | (np.int64(data[at + 1]) & 0x3F), at + 2
    if lead < 0xF0:
        low = (np.int64(data[at + 1]) & 0x3F) << 6 | (np.int64(data[at + 2]) & 0x3F)
        return (lead & 0x0F) << 12 | low, at + 3
    low = (np.int64(data[at + 1]) & 0x3F) << 12 | (np.int64(data[at + 2]) & 0x3F) << 6 | (np.int64(data[at + 3]) & 0x3F)
    return (lead & 0x07) << 18 | low, at + 4


@entry
def count(data, counts):
    """Add to `counts`, int64 [CODES], how often each code point stands in `data`; returns the greatest one."""
    # Four tables, since the same letter twice in a row would wait for itself.
    few = np.zeros((4, 256), dtype=np.int64)
    most, at, end = np.int64(0), 0, len(data)
    while at < end:
        while at + 4 <= end:
            a, b, c, d = data[at], data[at + 1], data[at + 2], data[at + 3]
            if (a | b | c | d) >= 0x80:
                break
            few[0, a] += 1
            few[1, b] += 1
            few[2, c] += 1
            few[3, d] += 1
            at += 4
        if at >= end:
            break
        code, at = decode(data, at)
        counts[code] += 1
        most = max(most, code)
    for code in range(0x80):
        found = few[0, code] + few[1, code] + few[2, code] + few[3, code]
        if found:
            counts[code] += found
            most = max(most, np.int64(code))
    return most


@entry
def rewrite(data, offsets, starts, lengths, blob, same, out, out_offsets):
    """Replace every character: code point c becomes blob[starts[c] : starts[c] + lengths[c]].

    `starts` and `lengths` are int32 [CODES]; `same`, bool [256], says of which bytes under 0x80 nothing changes. `out`,
    uint8, has room for all; `out_offsets`, int64 [n + 1], are set. Returns how many bytes were written.
    """
    written = 0
    out_offsets[0] = 0
    for row in range(len(offsets) - 1):
        at, end = offsets[row], offsets[row + 1]
        while at < end:
            while at + 4 <= end:
                a, b, c, d = data[at], data[at + 1], data[at + 2], data[at + 3]
                if not (same[a] & same[b] & same[c] & same[d]):
                    break
                out[written] = a
                out[written + 1] = b
                out[written + 2] = c
                out[written + 3] = d
                at += 4
                written += 4
            if at >= end:
                break
            code, at = decode(data, at)
            start = starts[code]
            for offset in range(lengths[code]):
                out[written + offset] = blob[start + offset]
            written += lengths[code]
        out_offsets[row + 1] = written
    return written


@entry
def encode(data, ids, out):
    """Write the id of every character, ids[code point], to `out`; `ids` is int32 [CODES], -1 where there is none.

    Returns how many were written, or -1 - code point of the first character that has none.
    """
    written, at, end = 0, 0, len(data)
    while at < end:
        while at + 4 <= end:
            a, b, c, d = data[at], data[at + 1], data[at + 2], data[at + 3]
            if (a | b | c | d) >= 0x80 or (ids[a] | ids[b] | ids[c] | ids[d]) < 0:
                break
            out[written] = ids[a]
            out[written + 1] = ids[b]
            out[written + 2] = ids[c]
            out[written + 3] = ids[d]
            at += 4
            written += 4
        if at >= end:
            break
        code, at = decode(data, at)
        if ids[code] < 0:
            return -1 - code
        out[written] = ids[code]
        written += 1
    return written

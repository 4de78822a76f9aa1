"""Compiled loops over UTF-8 text: counts, rewrites and encodes characters by tables over code points; joins lines.

All text is valid UTF-8, uint8 [bytes]. Row i of n is data[offsets[i] : offsets[i + 1]], offsets int64 [n + 1], as in
Arrow.
"""

import numpy as np

from pipeline.core.kernel_cache import kernel, kernel_helper

CODES = 0x110000
ASCII = 0x80


@kernel_helper
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


@kernel
def count(data, counts):
    """Add to `counts`, int64 [CODES], how often each code point occurs in `data`; returns the greatest one."""
    # Four tables for ASCII: with one, counting the same letter twice in a row would wait for the first addition.
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


@kernel
def rewrite(data, offsets, starts, lengths, blob, same, out, out_offsets):
    """Replace every character: code point c becomes blob[starts[c] : starts[c] + lengths[c]].

    `starts` and `lengths` are int32 [CODES]; `same`, bool [256], is true for the bytes below 0x80 that do not change.
    `out`, uint8, must be large enough; `out_offsets`, int64 [n + 1], are set. Returns the number of bytes written.
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


@kernel
def encode(data, ids, out):
    """Write the id of every character, ids[code point], to `out`; `ids` is int32 [CODES], -1 for no id.

    Returns the number of ids written, or -1 - code point of the first character without an id.
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


SPACE, TAB, NEWLINE = 0x20, 0x09, 0x0A


@kernel
def collapse(data, offsets, first, last, out, out_offsets):
    """Collapse the whitespace of every row into `out`, uint8 [at least len(data)]; returns the number of bytes written.

    A run of spaces and tabs becomes one space, or nothing at the beginning and end of a line. Of several newlines with
    only spaces between them, two are retained. `first` and `last`, bool [n], are true for rows that begin and end a
    document; the beginning and end of a document count as those of a line.
    """
    written = 0
    out_offsets[0] = 0
    for row in range(len(offsets) - 1):
        newlines = 2 if first[row] else 0  # newlines at the beginning of a document are dropped
        gap = False
        for at in range(offsets[row], offsets[row + 1]):
            byte = data[at]
            if byte in (SPACE, TAB):
                gap = True
            elif byte == NEWLINE:
                gap = False
                if newlines < 2:
                    out[written] = byte
                    written += 1
                newlines += 1
            else:
                if gap and newlines == 0:
                    out[written] = SPACE
                    written += 1
                gap = False
                newlines = 0
                out[written] = byte
                written += 1
        if gap and newlines == 0 and not last[row]:
            out[written] = SPACE
            written += 1
        if last[row]:
            while written > out_offsets[row] and out[written - 1] == NEWLINE:
                written -= 1
        out_offsets[row + 1] = written
    return written


@kernel
def join(data, offsets, before, after, out):
    """Write all rows one after the other; returns the number of bytes written.

    `before` and `after`, uint8 [n], are the bytes to write before and after each row, 0 for none.
    """
    written = 0
    for row in range(len(offsets) - 1):
        if before[row]:
            out[written] = before[row]
            written += 1
        start, end = offsets[row], offsets[row + 1]
        out[written : written + end - start] = data[start:end]
        written += end - start
        if after[row]:
            out[written] = after[row]
            written += 1
    return written


@kernel
def join_lines(data, offsets, last, begin, end, is_open, out):
    """Write every non-empty line between the bytes `begin` and `end`, without its newline.

    `last`, bool [n], is true for rows that end a document; `is_open` if the row before ended within a line.
    Returns the number of bytes written, and whether the last row ended within a line.
    """
    written = 0
    for row in range(len(offsets) - 1):
        for at in range(offsets[row], offsets[row + 1]):
            byte = data[at]
            if byte != NEWLINE:
                if not is_open:
                    out[written] = begin
                    written += 1
                    is_open = True
                out[written] = byte
                written += 1
            elif is_open:
                out[written] = end
                written += 1
                is_open = False
        if last[row] and is_open:
            out[written] = end
            written += 1
            is_open = False
    return np.int64(written), is_open


# The indexes of `state` in `survey_lines`.
LENGTH, LONGEST, LONGEST_ROW, EXTRA_SPACES, INDENTED = range(5)
STATE = 5


@kernel
def survey_lines(data, offsets, last, lengths, state):
    """Count the lines of all rows by length: adds to lengths[min(characters, most)], int64 [most + 1].

    `last`, bool [n], is true for rows that end a document, and with it a line. `state`, int64 [STATE], is passed from
    call to call: the length so far of an unfinished line; the length of the longest line, and its row in this call
    (-1 if it was in an earlier call); the number of spaces and tabs that follow another one within a line, after its
    indentation; the number of lines that begin with a tab.
    """
    most = len(lengths) - 1
    state[LONGEST_ROW] = -1
    before, begun = False, state[LENGTH] > 0
    for row in range(len(offsets) - 1):
        for at in range(offsets[row], offsets[row + 1]):
            byte = data[at]
            if byte & 0xC0 == 0x80:  # not the first byte of a character
                continue
            if byte == NEWLINE:
                lengths[min(state[LENGTH], most)] += 1
                if state[LENGTH] > state[LONGEST]:
                    state[LONGEST], state[LONGEST_ROW] = state[LENGTH], row
                state[LENGTH] = 0
                before = begun = False
                continue
            blank = byte in (SPACE, TAB)
            begun = begun or not blank
            state[EXTRA_SPACES] += blank and before and begun
            state[INDENTED] += byte == TAB and state[LENGTH] == 0
            before = blank
            state[LENGTH] += 1
        if last[row] and state[LENGTH]:
            lengths[min(state[LENGTH], most)] += 1
            if state[LENGTH] > state[LONGEST]:
                state[LONGEST], state[LONGEST_ROW] = state[LENGTH], row
            state[LENGTH] = 0
            before = begun = False


# What matters for the nesting of JSON: quotes, backslashes and brackets.
QUOTE, BACKSLASH = 0x22, 0x5C
OPENING, CLOSING = (0x5B, 0x7B), (0x5D, 0x7D)


@kernel
def line_nested_too_deeply(data, limit):
    """Return the first line (from 0) of JSON lines, uint8 [n], with more than `limit` open brackets; -1 if none.

    A recursive parser would overflow its stack on such a line.
    """
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

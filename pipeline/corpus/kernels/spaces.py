"""Runs of whitespace, collapsed."""

import numpy as np

from pipeline.compiling import entry

SPACE, TAB, NEWLINE = 0x20, 0x09, 0x0A


@entry
def collapse(data, offsets, first, last, out, out_offsets):
    """Collapse the whitespace of every row into `out`, uint8 [at least len(data)]; returns how many bytes were written.

    A run of spaces and tabs becomes one space, or nothing at a line's begin and end; of newlines with nothing between
    them two stay. `first` and `last`, bool [n], say whether a row begins and ends a document: a document's ends are
    ends of lines.
    """
    written = 0
    out_offsets[0] = 0
    for row in range(len(offsets) - 1):
        newlines = 2 if first[row] else 0  # at a document's begin no newline stays
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


@entry
def join(data, offsets, before, after, out):
    """Write all rows one after the other; returns how many bytes were written.

    `before` and `after`, uint8 [n], are bytes to write before and after each row, 0 for none.
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


@entry
def join_lines(data, offsets, last, begin, end, is_open, out):
    """Write every line that is not empty between the bytes `begin` and `end`; newlines are left out.

    `last`, bool [n], says whether a row ends a document; `is_open`, whether the row before left a line without its end.
    Returns how many bytes were written, and whether a line is open.
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

"""What the lines of a text are like."""

from pipeline.compiling import entry

SPACE, TAB, NEWLINE = 0x20, 0x09, 0x0A
# Where what is counted stands in `state`.
LENGTH, LONGEST, LONGEST_ROW, EXTRA_SPACES, INDENTED = range(5)
STATE = 5


@entry
def survey_lines(data, offsets, last, lengths, state):
    """Count the lines of all rows by their length: lengths[min(characters, most)], int64 [most + 1], is added to.

    `last`, bool [n], says which rows end a document, and with it a line. `state`, int64 [STATE], goes from call to
    call: the length of the line that is open; the longest line's length, and its row in the call that found it (-1: an
    earlier one did); spaces and tabs that follow another within a line, after its indentation; lines that begin with a
    tab.
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

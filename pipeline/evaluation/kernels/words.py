"""Words in a stream of ids, compiled; `evaluation/words.py` says what a word is, and makes the tables."""

import numpy as np

from pipeline.core.kernel_cache import kernel, kernel_helper
from pipeline.text.kernels.hashing import ONE, find_slot

# What an id is: one of two apostrophes, or a letter, whose number is FIRST_LETTER or more.
BREAK, APOSTROPHE, FIRST_LETTER = 0, 1, 3
# Where the walk is: between words, in a word, after its apostrophe, in what follows that.
OUTSIDE, INSIDE, PENDING, SECOND = 0, 1, 2, 3

SEED, FACTOR = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)
LETTER = np.uint64(FIRST_LETTER)


@kernel_helper
def mixed(value, letter):
    """Return the hash of a word that is one letter longer than one whose hash is `value`.

    The letters' numbers are random in all their 64 bits, so that no more mixing is needed.
    """
    return (value ^ letter) * FACTOR


@kernel
def hashes(letters, starts, out):
    """Set `out` uint64 [words] to the hashes of words: word i is letters[starts[i] : starts[i + 1]]."""
    for word in range(len(out)):
        value = SEED
        for at in range(starts[word], starts[word + 1]):
            value = mixed(value, letters[at])
        out[word] = value


@kernel
def enter(values, keys):
    """Put the hashes `values` into the table `keys` uint64 [a power of 2], 0 for an empty place."""
    for value in values:
        keys[find_slot(keys, value)] = value


@kernel
def read_words(ids, code_of, keys, found, walker):
    """Mark in `found` bool [table] the words of `ids` that are in the table `keys`.

    `code_of` uint64 [vocab] is what each id is; `walker` uint64 [3] is where the walk is, the hash of what it has read
    of a word, and that of its first part if an apostrophe may belong to it.
    """
    mask = np.uint64(len(keys) - 1)
    mode, value, first = np.int64(walker[0]), walker[1], walker[2]
    for at in range(len(ids)):
        kind = code_of[ids[at]]
        if kind >= LETTER:
            if mode == OUTSIDE:
                value, mode = SEED, INSIDE
            elif mode == PENDING:
                mode = SECOND
            value = mixed(value, kind)
        elif mode != OUTSIDE:
            if mode == INSIDE and kind != BREAK:
                first, mode = value, PENDING
                value = mixed(value, kind)
                continue
            ended = first if mode == PENDING else value
            mode = OUTSIDE
            place = ended & mask  # written out here: numba counts the references of an array that a function gets
            while keys[place]:
                if keys[place] == ended:
                    found[place] = True
                    break
                place = (place + ONE) & mask
    walker[0], walker[1], walker[2] = np.uint64(mode), value, first

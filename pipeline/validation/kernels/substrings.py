"""Substrings of one length, by a hash that rolls: that of the next one takes two products, whatever the length is.

The hash of ids a, b, … is the sum of (id + 1) * FACTOR**(ids after it) modulo 2**64 (Rabin and Karp 1987), its bits
mixed. No substring holds an id in begin..end; `begin` is -1 where there are no such symbols.

A set of hashes is open-addressed: `keys` is uint64 [a power of two], 0 where it is free. Most of what is looked up is
not there, and a set of millions does not fit a core's cache: `marks`, uint8 [as many], has one bit in eight places for
the leading bits of a hash, and says so first.
"""

import numpy as np

from pipeline.core.kernel_cache import kernel, kernel_helper
from pipeline.text.kernels.hashing import FACTOR, ONE, find_slot, mix, power

THREE, SEVEN = np.uint64(3), np.uint64(7)

BLOCK = 1 << 12


@kernel_helper
def shift_of(keys):
    """Return how far a hash is shifted to number a bit of `marks`: there are eight for each of `keys`."""
    bits, size = 61, len(keys)
    while size > 1:
        size >>= 1
        bits -= 1
    return np.uint64(bits)


@kernel
def add_substrings(ids, length, begin, end, at, step, keys, counts, marks):
    """Put the substrings of `ids` that begin at multiples of `step` into the set; ids[0] has the number `at`.

    counts[place], uint32, becomes how many have the hash keys[place]. There must be room. Returns how many were put.
    """
    shift, leaving = shift_of(keys), power(length)
    value, held, added = np.uint64(0), 0, 0
    to_go = (length - 1 - at) % step  # ids until the last one of a substring that is put
    for i in range(len(ids)):
        one = ids[i]
        if begin >= 0 and begin <= one <= end:
            value, held = np.uint64(0), 0
        else:
            value = value * FACTOR + np.uint64(one) + ONE
            held += 1
            if held > length:
                value -= (np.uint64(ids[i - length]) + ONE) * leaving
            if held >= length and to_go == 0:
                key = max(mix(value), ONE)
                place = find_slot(keys, key)
                keys[place] = key
                counts[place] += 1
                bit = key >> shift
                marks[bit >> THREE] |= np.uint8(ONE << (bit & SEVEN))
                added += 1
        to_go = to_go - 1 if to_go else step - 1
    return added


@kernel
def find_substrings(ids, length, begin, end, keys, marks, found):
    """Set found[place], bool, for every substring of `ids` that is in the set.

    Several threads may do so at once: what they write is the same.
    """
    shift, leaving = shift_of(keys), power(length)
    value, held = np.uint64(0), 0
    # What the marks let through is kept without a branch and looked up later: a branch that waits for memory and is
    # often guessed wrong would take most of the time (22 ns an id, where this takes 11).
    likely = np.empty(BLOCK, dtype=np.uint64)
    for first in range(0, len(ids), BLOCK):
        count = 0
        for i in range(first, min(first + BLOCK, len(ids))):
            one = ids[i]
            if begin >= 0 and begin <= one <= end:
                value, held = np.uint64(0), 0
                continue
            value = value * FACTOR + np.uint64(one) + ONE
            held += 1
            if held > length:
                value -= (np.uint64(ids[i - length]) + ONE) * leaving
            if held >= length:
                key = max(mix(value), ONE)
                bit = key >> shift
                likely[count] = key
                count += np.int64(marks[bit >> THREE] >> np.uint8(bit & SEVEN) & 1)
        for i in range(count):
            place = find_slot(keys, likely[i])
            if keys[place] == likely[i]:
                found[place] = True

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
def add_keys(hashes, keys, marks):
    """Add hashes of substrings to the set; it must have enough free places."""
    shift = shift_of(keys)
    for key in hashes:
        keys[find_slot(keys, key)] = key
        bit = key >> shift
        marks[bit >> THREE] |= np.uint8(ONE << (bit & SEVEN))


@kernel
def hash_substrings(ids, length, begin, end, at, step, out):
    """Set `out`, uint64, to the hashes of the substrings of `ids` that start at multiples of `step`.

    ids[0] has the number `at`. Returns the number of hashes.
    """
    leaving = power(length)
    value, held, count = np.uint64(0), 0, 0
    to_go = (length - 1 - at) % step  # the number of ids before the last one of the next substring
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
                out[count] = max(mix(value), ONE)
                count += 1
        to_go = to_go - 1 if to_go else step - 1
    return count


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

"""Compiled loops over ids: which ids are labels and how often, and which substrings of a text are in a set.

Substrings of one length are compared by a rolling hash, so that the next one's takes two products, whatever the length
is. The hash of ids a, b, … is the sum of (id + 1) * FACTOR**(ids after it) modulo 2**64 (Rabin and Karp 1987), its bits
mixed. No substring contains an id in begin..end; `begin` is -1 where there are no such symbols.

A set of hashes is open-addressed: `keys` is uint64 [a power of two], 0 where it is free. Most hashes that are looked up
are not in the set, and a set of millions does not fit into a core's cache. So a small bitmap is looked at first:
`marks`, uint8 [as many], has eight bits for each of `keys`, numbered by the leading bits of a hash.
"""

import numpy as np

from pipeline.core.kernel_cache import kernel, kernel_helper
from pipeline.text.hash_kernels import FACTOR, ONE, find_slot, mix, power

THREE, SEVEN = np.uint64(3), np.uint64(7)

BLOCK = 1 << 12


@kernel
def add_spans(covered, samples, at):
    """Add one to covered[k] for every sample that has id number at + k as a label.

    `covered` is int32 [ids]; `samples`, int64 [n, 2] (start, length), start at `at` or later and end within it.
    """
    for row in range(len(samples)):
        start = samples[row, 0] - at
        for k in range(start + 1, start + samples[row, 1] + 1):
            covered[k] += 1


@kernel
def tally(covered, ids, begin):
    """Return how many ids are no label, how many times others are one too often, and how many begin symbols are one.

    Id number k is the label of covered[k] positions. The id `begin` (-1: there is none) is to be the label of none.
    """
    unlabelled, repeated, begins = 0, 0, 0
    for k in range(len(ids)):
        if ids[k] == begin:
            begins += covered[k] > 0
        elif covered[k] == 0:
            unlabelled += 1
        else:
            repeated += covered[k] - 1
    return unlabelled, repeated, begins


@kernel
def count_misplaced(ids, samples, inputs, labels, padding):
    """Return how many places of a batch do not hold what the text has there.

    `samples`, int64 [n, 2], are those of the batch, counted from ids[0]; `inputs` and `labels` are int64 [n, length].
    At position t of a sample the input is ids[start + t] and the label the id after it; beyond its end both are
    `padding`.
    """
    wrong = 0
    for row in range(len(samples)):
        start, length = samples[row, 0], samples[row, 1]
        for t in range(length):
            wrong += (inputs[row, t] != ids[start + t]) | (labels[row, t] != ids[start + t + 1])
        for t in range(length, inputs.shape[1]):
            wrong += (inputs[row, t] != padding) | (labels[row, t] != padding)
    return wrong


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

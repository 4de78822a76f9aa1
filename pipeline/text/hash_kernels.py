"""Rolling hashes of texts, and an open-addressed set of hashes."""

import numpy as np

from pipeline.core.kernel_cache import kernel, kernel_helper

# Knuth's multiplier for linear congruential generators modulo 2**64 (MMIX), and SplitMix64's output function
# (Steele, Lea and Flood 2014).
FACTOR = np.uint64(6364136223846793005)
MIX_1, MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
S30, S27, S31 = np.uint64(30), np.uint64(27), np.uint64(31)
ONE = np.uint64(1)


@kernel_helper
def power(exponent):
    """Return FACTOR to the power of `exponent`, modulo 2**64."""
    result, base = ONE, FACTOR
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


@kernel_helper
def mix(value):
    """Return a 64-bit number of which every bit depends on every bit of `value`."""
    value = (value ^ (value >> S30)) * MIX_1
    value = (value ^ (value >> S27)) * MIX_2
    return value ^ (value >> S31)


@kernel_helper
def find_slot(table, value):
    """Return the index of `value` in `table`, or of the free slot where it belongs.

    `table` is an open-addressed set: uint64 [a power of two], 0 where a slot is free, with at least one free slot.
    """
    mask = np.uint64(len(table) - 1)
    slot = value & mask
    while table[slot] != 0 and table[slot] != value:
        slot = (slot + ONE) & mask
    return slot


@kernel
def hash_rows(data, offsets, out):
    """Set out[i], uint64 [n], to the hash of row i: the sum of (byte + 1) * FACTOR**(number of bytes after it).

    It is a polynomial (Rabin and Karp 1987), so that `join_hash` computes the hash of a text from those of two parts.
    """
    squared = FACTOR * FACTOR
    cubed = squared * FACTOR
    fourth = squared * squared
    for row in range(len(offsets) - 1):
        at, end = offsets[row], offsets[row + 1]
        value = np.uint64(0)
        while at + 4 <= end:
            value = (
                value * fourth
                + (np.uint64(data[at]) + ONE) * cubed
                + (np.uint64(data[at + 1]) + ONE) * squared
                + (np.uint64(data[at + 2]) + ONE) * FACTOR
                + (np.uint64(data[at + 3]) + ONE)
            )
            at += 4
        while at < end:
            value = value * FACTOR + np.uint64(data[at]) + ONE
            at += 1
        out[row] = value


@kernel
def join_hash(first, second, num_bytes):
    """Return the hash of a text from the hash of its first part and that of the rest, which has `num_bytes` bytes."""
    return np.uint64(first) * power(num_bytes) + np.uint64(second)


@kernel
def mix_in_place(values):
    """Replace each of `values`, uint64, by its mixed bits: a polynomial's low bits depend on few characters."""
    for i in range(len(values)):
        values[i] = mix(values[i])


@kernel
def add_new(table, values, is_new):
    """Add `values`, uint64, to `table` (see `find_slot`), which must have room for all of them.

    Sets is_new[i], bool, to whether values[i] was missing; returns the number of values that were added.
    """
    added = 0
    for i in range(len(values)):
        value = max(values[i], ONE)
        slot = find_slot(table, value)
        is_new[i] = table[slot] == 0
        if is_new[i]:
            table[slot] = value
            added += 1
    return added

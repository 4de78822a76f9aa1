"""Hashes of texts, and the set of those that were seen."""

import numpy as np

from pipeline.core.kernel_cache import entry, part

# Knuth's multiplier for linear congruential generators modulo 2**64 (MMIX), and SplitMix64's output function.
FACTOR = np.uint64(6364136223846793005)
MIX_1, MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
S30, S27, S31 = np.uint64(30), np.uint64(27), np.uint64(31)
ONE = np.uint64(1)


@part
def power(exponent):
    """Return FACTOR to the power of `exponent`, modulo 2**64."""
    result, base = ONE, FACTOR
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


@part
def mix(value):
    """Return a 64-bit number of which every bit depends on every bit of `value`."""
    value = (value ^ (value >> S30)) * MIX_1
    value = (value ^ (value >> S27)) * MIX_2
    return value ^ (value >> S31)


@entry
def hash_rows(data, offsets, out):
    """Set out[i], uint64 [n], to the hash of row i: the sum of (byte + 1) * FACTOR**(bytes after it).

    It is a polynomial, so that `chained` gives a text's hash from those of its parts.
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


@entry
def chained(before, value, num_bytes):
    """Return the hash of a text: `before` is that of its first part, `value` that of the rest, `num_bytes` long."""
    return np.uint64(before) * power(num_bytes) + np.uint64(value)


@entry
def mixed(values):
    """Replace each of `values`, uint64, by its mixed bits: a polynomial's low bits depend on few characters."""
    for i in range(len(values)):
        values[i] = mix(values[i])


@entry
def add_new(table, values, is_new):
    """Put `values`, uint64, into `table`, an open-addressed set: uint64 [a power of two], 0 where it is free.

    Sets is_new[i], bool, to whether values[i] was not there; returns how many were not. There must be room for all.
    """
    mask = np.uint64(len(table) - 1)
    added = 0
    for i in range(len(values)):
        value = max(values[i], ONE)
        slot = value & mask
        while table[slot] != 0 and table[slot] != value:
            slot = (slot + ONE) & mask
        is_new[i] = table[slot] == 0
        if is_new[i]:
            table[slot] = value
            added += 1
    return added

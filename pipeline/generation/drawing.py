"""Chooses the next character from the logits (compiled); `pipeline/params/sampling.py` describes the steps."""

import numpy as np

from pipeline.core.kernel_cache import kernel, kernel_helper
from pipeline.generation.arithmetic import bits, exp32, from_bits

# One record per text: its sampling options. `seed` and `position` determine the random number of the next character.
RULE = np.dtype(
    [
        ("temperature", np.float64),
        ("top_k", np.int64),
        ("top_p", np.float64),
        ("min_p", np.float64),
        ("repetition_penalty", np.float64),
        ("repetition_window", np.int64),
        ("frequency_penalty", np.float64),
        ("presence_penalty", np.float64),
        ("ngram_weight", np.float64),
        ("seed", np.uint64),
        ("position", np.int64),
    ]
)
# The reciprocal of this, times any logit, is still finite.
LOWEST_TEMPERATURE = 1e-30
GOLDEN, MIX_1, MIX_2 = (np.uint64(value) for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
S30, S27, S31, S11, ONE_64 = (np.uint64(value) for value in (30, 27, 31, 11, 1))
# The bits of a float32, as an integer, are ordered as the number is, if it is positive. Loops that compare integers
# become vector code: unlike those that compare floats, they may find the largest in any order.
SIGN, MAGNITUDE, LOWEST_BITS = np.int32(31), np.int32(0x7FFFFFFF), np.int32(-(1 << 31))
BITS_OF_ONE = np.int32(0x3F800000)
S32, LOW_BITS = np.int64(32), np.int64((1 << 32) - 1)
# The logit of an id that cannot be drawn, and the bounds of all others: weights can be so large that a product is
# infinite or not a number.
EXCLUDED, LEAST, MOST = np.float32(-np.inf), np.float32(-1e38), np.float32(1e38)


@kernel_helper
def uniform(seed, position):
    """Return the random number in [0, 1) for position `position` of a text with `seed`.

    It is SplitMix64's output function (Steele, Lea and Flood 2014) of the position-th state after `seed`. No generator
    state is kept, so a text depends on its own seed only.
    """
    z = seed + (np.uint64(position) + ONE_64) * GOLDEN
    z = (z ^ (z >> S30)) * MIX_1
    z = (z ^ (z >> S27)) * MIX_2
    return np.float64((z ^ (z >> S31)) >> S11) * 2.0**-53


@kernel_helper
def _ordered(number):
    """Return the bits of a float32 as an int32 that is ordered as the number is, or the bits of such an int32."""
    return np.int32(number ^ ((number >> SIGN) & MAGNITUDE))


@kernel_helper
def largest(numbers):
    """Return the largest of float32 [n]."""
    best = LOWEST_BITS
    for i in range(len(numbers)):
        best = np.int32(max(best, _ordered(bits(numbers[i]))))
    return from_bits(_ordered(best))


@kernel_helper
def log_normaliser(logits, scratch):
    """Return log(sum(exp(logits))), float64, of float32 [vocab]; `scratch` is float32 [vocab]."""
    best = largest(logits)
    for i in range(len(logits)):
        scratch[i] = exp32(logits[i] - best)
    total = 0.0
    for i in range(len(logits)):
        total += scratch[i]
    return best + np.log(total)


@kernel_helper
def choose(logits, allowed, bias, counts, recent, rule, number, scratch, keys):
    """Return the id of the next character.

    `logits` is float32 [vocab] and is modified; `allowed` is bool [vocab]; `bias`, float32 [vocab], is added to the
    logits; `counts`, int32 [vocab], is how often each id was written; `recent` is int32, the last ids, -1 for none;
    `number` is the random number in [0, 1); float32 [2, vocab] `scratch` and int64 [vocab] `keys` are overwritten.
    """
    vocab = len(logits)
    if rule.repetition_penalty != 1.0:
        _penalise(logits, recent, rule, scratch[1])
    for i in range(vocab):
        logits[i] += bias[i]
    if rule.frequency_penalty != 0.0 or rule.presence_penalty != 0.0:
        for i in range(vocab):
            if counts[i] > 0:
                logits[i] -= np.float32(rule.frequency_penalty * counts[i] + rule.presence_penalty)
    for i in range(vocab):
        logit = max(LEAST, logits[i])  # also what is not a number
        logits[i] = min(logit, MOST) if allowed[i] else EXCLUDED
    best = largest(logits)
    likeliest = 0
    while likeliest < vocab - 1 and logits[likeliest] != best:
        likeliest += 1
    if rule.temperature == 0.0:
        return likeliest
    # The largest logit is subtracted before dividing, so that a tiny temperature cannot overflow.
    inverse = 1.0 / max(rule.temperature, LOWEST_TEMPERATURE)
    probs = scratch[0]
    for i in range(vocab):
        probs[i] = exp32(np.float32((logits[i] - best) * inverse))
    for i in range(vocab):
        if not allowed[i]:
            probs[i] = 0.0
    probs[likeliest] = 1.0
    count = vocab
    if 0 < rule.top_k < vocab:
        count = rule.top_k
        _keep_top(probs, count)
    if rule.top_p < 1.0:
        _keep_nucleus(probs, count, rule.top_p, keys)
    if rule.min_p > 0.0:
        for i in range(vocab):
            if probs[i] < rule.min_p:  # relative to the likeliest, which has 1
                probs[i] = 0.0
    # Draw: the first character at which the cumulated probability exceeds the random share of the total.
    total = 0.0
    for i in range(vocab):
        total += probs[i]
    wanted = number * total
    reached = 0.0
    for i in range(vocab):
        reached += probs[i]
        if reached > wanted:
            return i
    # Only if `wanted` was rounded up to the total: the last one.
    last = vocab - 1
    while probs[last] == 0.0:
        last -= 1
    return last


@kernel_helper
def _penalise(logits, recent, rule, seen):
    penalty = np.float32(rule.repetition_penalty)
    seen[:] = 0.0
    for at in range(max(0, len(recent) - rule.repetition_window), len(recent)):
        if recent[at] >= 0:
            seen[recent[at]] = 1.0
    for i in range(len(logits)):  # once per character, however often it occurs
        changed = logits[i] / penalty if logits[i] > 0 else logits[i] * penalty
        logits[i] = changed if seen[i] == 1.0 else logits[i]


@kernel_helper
def _keep_top(probs, k):
    """Set to 0 all but the `k` largest of `probs`, the lower ids among equals; k is less than their number."""
    # k probabilities or more have at least the bits `low`, `above` of them, fewer than k, have at least `high`.
    low, high, above = np.int32(0), np.int32(BITS_OF_ONE + 1), 0
    while high - low > 1:
        middle = np.int32((low + high) >> 1)
        count = np.int32(0)
        for i in range(len(probs)):
            count = np.int32(count + (bits(probs[i]) >= middle))
        if count == k:
            _keep(probs, from_bits(middle), len(probs))
            return
        if count > k:
            low = middle
        else:
            high, above = middle, count
    # Several are equal to the smallest that is kept.
    least, last = from_bits(low), -1
    while above < k:
        last += 1
        above += probs[last] == least
    _keep(probs, least, last)


@kernel_helper
def _keep_nucleus(probs, count, top_p, keys):
    """Set to 0 all but the nucleus of `probs`: the likeliest that together have share `top_p` of their sum.

    At most `count` are not 0. `keys` is int64 [vocab] and is overwritten.
    """
    total = 0.0
    for i in range(len(probs)):
        total += probs[i]
    # All ids less likely than this have a share of less than 1 - top_p together, so none of them is needed.
    least = np.float32(0.999 * (1.0 - top_p) * total / count)
    # The larger of two keys is that of the likelier id, and of the lower among equals.
    few = np.int64(0)  # a literal 0 would be a type of its own, for which the heap is compiled once more
    for i in range(len(probs)):
        keys[few] = np.int64(bits(probs[i])) << S32 | (LOW_BITS - i)
        few += probs[i] >= least
    # A heap: the largest key is always the first.
    for at in range(few // 2 - 1, -1, -1):
        _sink(keys, at, few)
    enough, reached = top_p * total, 0.0
    while True:
        least = from_bits(keys[0] >> S32)
        reached += least
        few -= 1
        if reached >= enough or few == 0:
            break
        keys[0] = keys[few]
        _sink(keys, np.int64(0), few)
    _keep(probs, least, LOW_BITS - (keys[0] & LOW_BITS))


@kernel_helper
def _sink(keys, at, size):
    """Make keys[at:size] a heap again whose element `at` may be smaller than those below it."""
    own = keys[at]
    while 2 * at + 1 < size:
        child = 2 * at + 1
        child += child + 1 < size and keys[child + 1] > keys[child]
        if keys[child] <= own:
            break
        keys[at] = keys[child]
        at = child
    keys[at] = own


@kernel_helper
def _keep(probs, least, last):
    """Set to 0 what is less than `least`, and what is equal to it but has a higher id than `last`."""
    for i in range(len(probs)):
        if probs[i] < least or (probs[i] == least and i > last):
            probs[i] = 0.0


@kernel
def log_probs(logits, vocab):
    """Replace `logits`, float32 [rows, >= vocab], by log-probabilities, in place."""
    scratch = np.empty(vocab, dtype=np.float32)
    for row in range(len(logits)):
        line = logits[row, :vocab]
        off = np.float32(log_normaliser(line, scratch))
        for i in range(vocab):
            line[i] -= off

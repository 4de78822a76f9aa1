"""Chooses the next character from the logits (compiled); `pipeline/params/sampling.py` describes the steps."""

import numpy as np

from pipeline.core.kernel_cache import kernel, kernel_helper
from pipeline.generation.arithmetic import exp32

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
# Up to this number of candidates, the likeliest are found one after the other, since a few are mostly enough; more
# candidates are sorted.
MAX_SELECTION = 64

GOLDEN, MIX_1, MIX_2 = (np.uint64(value) for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
S30, S27, S31, S11, ONE_64 = (np.uint64(value) for value in (30, 27, 31, 11, 1))


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
def log_normaliser(logits, scratch):
    """Return log(sum(exp(logits))), float64, of float32 [vocab]; `scratch` is float32 [vocab]."""
    best = logits.max()
    for i in range(len(logits)):
        scratch[i] = exp32(logits[i] - best)
    total = 0.0
    for i in range(len(logits)):
        total += scratch[i]
    return best + np.log(total)


@kernel_helper
def choose(logits, allowed, bias, counts, recent, rule, number, scratch):
    """Return the id of the next character.

    `logits` is float32 [vocab] and is modified; `allowed` is bool [vocab]; `bias`, float32 [vocab], is added to the
    logits; `counts`, int32 [vocab], is how often each id was written; `recent` is int32, the last ids, -1 for none;
    `number` is the random number in [0, 1); `scratch` is float32 [2, vocab].
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
    best = np.float32(-np.inf)
    likeliest = 0
    for i in range(vocab):
        if allowed[i] and logits[i] > best:
            best, likeliest = logits[i], i
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
    if 0 < rule.top_k < vocab or rule.top_p < 1.0:
        _truncate(probs, rule, scratch[1])
    if rule.min_p > 0.0:
        for i in range(vocab):
            if probs[i] < rule.min_p:  # relative to the likeliest, which has 1
                probs[i] = 0.0
    # Draw: the first character at which the cumulated probability exceeds the random share of the total.
    total = 0.0
    for i in range(vocab):
        total += probs[i]
    wanted = number * total
    reached, last = 0.0, likeliest
    for i in range(vocab):
        if probs[i] > 0.0:
            reached += probs[i]
            last = i
            if reached > wanted:
                return i
    return last


@kernel_helper
def _penalise(logits, recent, rule, seen):
    penalty = np.float32(rule.repetition_penalty)
    window = recent[max(0, len(recent) - rule.repetition_window) :]
    seen[:] = 0.0
    for token in window:
        if token >= 0 and seen[token] == 0.0:  # once per character, however often it occurs
            seen[token] = 1.0
            logits[token] = logits[token] / penalty if logits[token] > 0 else logits[token] * penalty


@kernel_helper
def _truncate(probs, rule, scratch):
    """Set to 0 the probabilities outside the top k, and outside the nucleus of top_p of what top k leaves."""
    vocab = len(probs)
    order = np.empty(vocab, dtype=np.int64)
    count = 0
    if 0 < rule.top_k < vocab:
        scratch[:] = probs
        bound = _kth_largest(scratch, rule.top_k)
        equals = rule.top_k
        for i in range(vocab):
            equals -= probs[i] > bound
        for i in range(vocab):
            keep = probs[i] > bound
            if probs[i] == bound and equals > 0:
                keep, equals = True, equals - 1
            order[count] = i
            count += keep
    else:
        for i in range(vocab):
            order[i] = i
        count = vocab
    if rule.top_p < 1.0:
        count = _nucleus(probs, order, count, rule.top_p, scratch)
    for i in range(vocab):
        scratch[i] = probs[i]
        probs[i] = 0.0
    for i in order[:count]:
        probs[i] = scratch[i]


@kernel_helper
def _kth_largest(values, k):
    """Return the k-th largest of `values`, which are reordered (Hoare's quickselect)."""
    low, high = 0, len(values) - 1
    while low < high:
        pivot = values[(low + high) // 2]
        left, right = low, high
        while left <= right:
            while values[left] > pivot:
                left += 1
            while values[right] < pivot:
                right -= 1
            if left <= right:
                values[left], values[right] = values[right], values[left]
                left += 1
                right -= 1
        if k - 1 <= right:
            high = right
        elif k - 1 >= left:
            low = left
        else:
            break
    return values[k - 1]


@kernel_helper
def _nucleus(probs, order, count, top_p, scratch):
    """Select the nucleus of the first `count` ids of `order`: the likeliest ones that together have share `top_p`.

    They are moved to the front of `order`; returns their number.
    """
    total = 0.0
    for i in order[:count]:
        total += probs[i]
    # All ids less likely than this have a share of less than 1 - top_p together, so none of them is needed.
    least = np.float32(0.999 * (1.0 - top_p) * total / count)
    few = 0
    for i in order[:count]:
        order[few] = i
        scratch[few] = probs[i]
        few += probs[i] >= least
    enough = top_p * total
    if few > MAX_SELECTION:
        order[:few] = order[:few][np.argsort(-scratch[:few], kind="mergesort")]
        reached = 0.0
        for at in range(few):
            reached += probs[order[at]]
            if reached >= enough:
                return at + 1
        return few
    picks = np.empty(few, dtype=np.int64)
    reached = 0.0
    for picked in range(few):
        best, at = np.float32(-1.0), 0
        for other in range(few):
            if scratch[other] > best:
                best, at = scratch[other], other
        scratch[at] = -1.0
        picks[picked] = order[at]
        reached += best
        if reached >= enough:
            few = picked + 1
            break
    order[:few] = picks[:few]
    return few


@kernel
def log_probs(logits, vocab):
    """Replace `logits`, float32 [rows, >= vocab], by log-probabilities, in place."""
    scratch = np.empty(vocab, dtype=np.float32)
    for row in range(len(logits)):
        line = logits[row, :vocab]
        off = np.float32(log_normaliser(line, scratch))
        for i in range(vocab):
            line[i] -= off

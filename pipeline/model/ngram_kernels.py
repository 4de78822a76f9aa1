"""The loops of the n-gram model: they build its trie and read texts with it. `ngram.py` explains the model.

A node is a distinct gram (a string of ids) of the training text; node 0, the root, is the empty gram. While the trie is
built, `table`, uint64 [rows, 2], is a hash table with open addressing: a row is (key, node). The key of gram hw is
(node of h) << SHIFT | w; 0 marks an empty row. The finished trie (`Trie` in ngram.py) needs no table: the children of a
node follow one another, sorted by their last ids.

A gram that occurs once has one successor, so its extensions are not stored: a reader follows the training text itself.
The state of a reader is therefore a node, or ON_TEXT - i where only position i of the text ends with what was read.
"""

import math

import numpy as np

from pipeline.core.kernel_cache import kernel, kernel_helper

SHIFT, SYMBOL = np.uint64(21), np.uint64((1 << 21) - 1)  # code points take 21 bits
FACTOR = np.uint64(0x9E3779B97F4A7C15)
EMPTY = np.uint64(0)
ROOT, NONE, UNIQUE, ON_TEXT = 0, -1, -2, -2
# Contexts are grouped by their length and by the logarithm of their count, up to this: 32 and more are one group.
COUNT_GROUPS = 6
# Probabilities below this count as this, in logarithms.
FLOOR = 1e-30


@kernel_helper
def key_of(node, symbol):
    """Return the key of the gram that `symbol` extends `node` to."""
    return np.uint64(node) << SHIFT | np.uint64(symbol)


@kernel_helper
def row_of(table, key):
    """Return the row of `table` that holds `key`, or the empty one where it belongs."""
    mask = np.int64(len(table) - 1)
    mixed = key * FACTOR
    at = np.int64(mixed ^ mixed >> np.uint64(32)) & mask
    while table[at, 0] != key and table[at, 0] != EMPTY:
        at = (at + 1) & mask
    return at


@kernel
def rehash(table, larger):
    """Copy all rows of `table` into the empty table `larger`."""
    for at in range(len(table)):
        if table[at, 0] != EMPTY:
            to = row_of(larger, table[at, 0])
            larger[to, 0], larger[to, 1] = table[at, 0], table[at, 1]


@kernel
def extend(text, nodes, level, first, stop, begin, table, raw, counts, where, size):
    """Replace the nodes of the grams of length `level - 1` that end in [first, stop) by those of length `level`.

    Positions must be processed from the last to the first: each needs its left neighbour's shorter gram. `nodes` holds
    NONE where the text or a document begins less than `level` ids before, and UNIQUE for a gram that is not stored.
    `raw` counts occurrences, `where` is the position of the last id of one of them. `counts` of a gram of length
    `level - 1` counts its distinct left neighbours; the start of the text or of a document is a neighbour of its own
    each time. Returns the number of nodes, and of grams that were not stored.
    """
    unique = 0
    for i in range(stop - 1, first - 1, -1):
        own, symbol = nodes[i], text[i]
        if own == NONE:
            continue
        prefix = nodes[i - 1] if i > 0 else (ROOT if level == 1 else NONE)
        if level > 1 and symbol == begin:  # no gram extends over the start of a document
            nodes[i] = NONE
            continue
        if prefix == NONE:
            new, after = True, NONE
        elif prefix == UNIQUE or raw[prefix] == 1:
            new, after = True, UNIQUE
            unique += 1
        else:
            key = key_of(prefix, symbol)
            row = row_of(table, key)
            new = table[row, 0] == EMPTY
            if new:
                table[row, 0], table[row, 1] = key, np.uint64(size)
                raw[size], counts[size], where[size] = 0, 0, i
                size += 1
            after = np.int64(table[row, 1])
            raw[after] += 1
        if new and own >= 0:
            counts[own] += 1
        nodes[i] = after
    return size, unique


@kernel_helper
def child_of(trie, node, symbol):
    """Return the node of the gram that `symbol` extends `node` to; NONE if the text does not have it."""
    low, end = trie.first[node], trie.first[node + 1]
    high = end
    while low < high:
        middle = (low + high) >> 1
        if trie.symbols[middle] < symbol:
            low = middle + 1
        else:
            high = middle
    return low if low < end and trie.symbols[low] == symbol else NONE


@kernel_helper
def start(states):
    """Make `states` those of a reader that has read nothing.

    `states`, int64 [longest + 1]: the state after the last k ids for each k below the depth, which is the last element.
    """
    states[0], states[-1] = ROOT, 1


@kernel_helper
def advance(trie, states, symbol):
    """Update the reader's `states` by `symbol`, and return its probability."""
    p = trie.uniform
    depth, longest = states[-1], len(states) - 1
    carried, deepest = ROOT, 1
    for k in range(depth):
        state, states[k] = states[k], carried
        carried = NONE
        if state >= 0:
            node = child_of(trie, state, symbol)
            count = 0
            if node != NONE:
                count = trie.counts[node]
                carried = node if trie.where[node] < 0 else ON_TEXT - trie.where[node]
            if trie.totals[state] > 0:
                p = (count - trie.discounts[k + 1, min(count, 3)] + trie.reserved[state] * p) / trie.totals[state]
        else:
            i = ON_TEXT - state + 1
            if i < len(trie.text) and trie.text[i] != trie.begin:
                p *= trie.discounts[k + 1, 1]
                if trie.text[i] == symbol:
                    p += 1 - trie.discounts[k + 1, 1]
                    carried = ON_TEXT - i
        if carried != NONE:
            deepest = k + 2
    if depth < longest:
        states[depth] = carried
    states[-1] = min(deepest, longest)
    return p


@kernel_helper
def spread(trie, states, probs):
    """Fill `probs`, float64 [vocab], with the probability of every id after `states`; return the context's group.

    Padding and the begin symbol have 0. The same sums as in `advance`, for all ids at once.
    """
    probs[:] = trie.uniform
    length, count = 0, 0
    for k in range(states[-1]):
        state = states[k]
        if state >= 0:
            total = trie.totals[state]
            if total > 0:
                length, count = k, total
                for i in range(len(probs)):
                    probs[i] *= trie.reserved[state]
                for node in range(trie.first[state], trie.first[state + 1]):
                    own = trie.counts[node]
                    probs[trie.symbols[node]] += own - trie.discounts[k + 1, min(own, 3)]
                for i in range(len(probs)):
                    probs[i] /= total
        else:
            i = ON_TEXT - state + 1
            if i < len(trie.text) and trie.text[i] != trie.begin:
                length, count = k, 1
                for j in range(len(probs)):
                    probs[j] *= trie.discounts[k + 1, 1]
                probs[trie.text[i]] += 1 - trie.discounts[k + 1, 1]
    probs[0] = 0.0
    if trie.begin >= 0:
        probs[trie.begin] = 0.0
    return group_of(length, count)


@kernel_helper
def group_of(length, count):
    """Return the group of a context: `length` ids that the training text has, followed by something `count` times."""
    group = 0
    while count > 1 and group < COUNT_GROUPS - 1:
        count >>= 1
        group += 1
    return length * COUNT_GROUPS + group


@kernel_helper
def mix(trie, states, share, logits, probs):
    """Replace the network's logits, float32 [vocab], by those of network and trie together after `states`.

    They are a * (the network's) + b * log(the trie's probability): a product of both, with the exponents a and b of the
    context's group. `share` scales the trie's part: 1 is the model itself, 0 the network alone. `probs`, float64
    [vocab], is scratch.
    """
    group = spread(trie, states, probs)
    own = np.float32(1 + share * (trie.weights[group, 0] - 1))
    other = share * trie.weights[group, 1]
    for i in range(len(logits)):
        logits[i] = own * logits[i] + np.float32(other * math.log(max(probs[i], FLOOR)))


@kernel
def mix_rows(trie, ids, states, logits):
    """Do what `mix` does for each row of `logits`, float32 [time, vocab]: row t is what precedes ids[t]."""
    probs = np.empty(logits.shape[1], np.float64)
    for at in range(len(ids)):
        mix(trie, states, 1.0, logits[at], probs)
        advance(trie, states, ids[at])


@kernel
def mix_inputs(trie, ids, states, logits):
    """Do what `mix` does for each row of `logits`, float32 [time, vocab]: row t is what follows ids[t]."""
    probs = np.empty(logits.shape[1], np.float64)
    for at in range(len(ids)):
        advance(trie, states, ids[at])
        mix(trie, states, 1.0, logits[at], probs)


@kernel
def read(trie, ids, states):
    """Update the reader's `states` by all `ids`; only the last ones matter."""
    longest = len(states) - 1
    if len(ids) >= longest:
        start(states)
    for at in range(max(0, len(ids) - longest), len(ids)):
        advance(trie, states, ids[at])


@kernel
def score(trie, ids, rows, out):
    """Fill `out` with log p of ids[first:stop] for each row (start, first, stop), one after the other.

    What is before `start` is not known to the model.
    """
    states, filled = np.empty(len(trie.discounts), np.int64), 0
    for row in range(len(rows)):
        start(states)
        for i in range(rows[row, 0], rows[row, 2]):
            p = advance(trie, states, ids[i])
            if i >= rows[row, 1]:
                out[filled] = math.log(p)
                filled += 1


@kernel
def distributions(trie, ids, rows, probs, groups):
    """Fill `probs`, float64 [positions, vocab], with all probabilities at the positions that `score` scores.

    `groups`, int64 [positions], are filled with the groups of the contexts.
    """
    states, filled = np.empty(len(trie.discounts), np.int64), 0
    for row in range(len(rows)):
        start(states)
        for i in range(rows[row, 0], rows[row, 2]):
            if i >= rows[row, 1]:
                groups[filled] = spread(trie, states, probs[filled])
                filled += 1
            advance(trie, states, ids[i])

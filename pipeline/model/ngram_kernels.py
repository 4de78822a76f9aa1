"""The loops of the n-gram model: they build its trie and read texts with it. `model/ngram.py` explains the model.

A node is a distinct gram (a string of ids) of the training text; the root is the empty gram. `table`, uint64 [rows, 2],
is a hash table with open addressing: a row is (key, node). The key of gram hw is (node of h) << SHIFT | w; 0 marks an
empty row.

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


@kernel
def sum_up(table, counts, levels, discounts, begin, totals, reserved):
    """Fill for each context the sum of its successors' counts, and what is discounted from them.

    `levels`, int64 [longest + 1], are the numbers of nodes up to each length. `discounts`, float64 [longest + 1, 4],
    are those of each length by the count, 3 for all from 3 on.
    """
    for at in range(len(table)):
        key = table[at, 0]
        if key == EMPTY or np.int64(key & SYMBOL) == begin:
            continue
        node, context = np.int64(table[at, 1]), np.int64(key >> SHIFT)
        level = 1
        while node >= levels[level]:
            level += 1
        totals[context] += counts[node]
        reserved[context] += discounts[level, min(counts[node], 3)]


@kernel_helper
def read(symbol, states, depth, longest, text, begin, table, counts, where, totals, reserved, discounts, p):
    """Return the probability of `symbol` where the uniform one is `p`, and the depth after it.

    `states[k]`, k < depth, is the state of the last k ids; they are replaced by those after `symbol`.
    """
    carried, deepest = ROOT, 1
    for k in range(depth):
        state, states[k] = states[k], carried
        carried = NONE
        if state >= 0:
            row = row_of(table, key_of(state, symbol))
            count = 0
            if table[row, 0] != EMPTY:
                node = np.int64(table[row, 1])
                count = counts[node]
                carried = node if where[node] < 0 else ON_TEXT - where[node]
            if totals[state] > 0:
                p = (count - discounts[k + 1, min(count, 3)] + reserved[state] * p) / totals[state]
        else:
            i = ON_TEXT - state + 1
            if i < len(text) and text[i] != begin:
                p *= discounts[k + 1, 1]
                if text[i] == symbol:
                    p += 1 - discounts[k + 1, 1]
                    carried = ON_TEXT - i
        if carried != NONE:
            deepest = k + 2
    if depth < longest:
        states[depth] = carried
    return p, min(deepest, longest)


@kernel
def score(ids, rows, longest, text, begin, table, counts, where, totals, reserved, discounts, uniform, out):
    """Fill `out` with log p of ids[first:stop] for each row (start, first, stop), one after the other.

    The longest grams of the model have `longest` ids. What is before `start` is not known to the model.
    """
    states, filled = np.empty(longest, np.int64), 0
    for row in range(len(rows)):
        depth, states[0] = 1, ROOT
        for i in range(rows[row, 0], rows[row, 2]):
            p, depth = read(
                ids[i], states, depth, longest, text, begin, table, counts, where, totals, reserved, discounts, uniform
            )
            if i >= rows[row, 1]:
                out[filled] = math.log(p)
                filled += 1


@kernel
def spread(context, longest, text, begin, table, counts, where, totals, reserved, discounts, uniform, out):
    """Fill `out`, float64 [vocab], with the probability of every id but `begin` and padding after `context`."""
    states, depth = np.empty(longest, np.int64), 1
    states[0] = ROOT
    for i in range(len(context)):
        _, depth = read(
            context[i], states, depth, longest, text, begin, table, counts, where, totals, reserved, discounts, uniform
        )
    for symbol in range(1, len(out)):
        if symbol != begin:
            out[symbol], _ = read(
                symbol,
                states.copy(),
                depth,
                longest,
                text,
                begin,
                table,
                counts,
                where,
                totals,
                reserved,
                discounts,
                uniform,
            )

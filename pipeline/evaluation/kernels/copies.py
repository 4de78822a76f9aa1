"""A suffix automaton of some texts, and the walk of a long stream through it; `evaluation/copies.py` says what for.

Its states stand for sets of substrings (Blumer et al. 1985): `longest[state]` is the length of the longest of them,
`link[state]` the state of the longest suffix that is in another set. The edges of a state are a linked list, from
`head[state]` on: `column[edge]` is what is read, `target[edge]` where it leads, `after[edge]` the next of them, -1 for
none. Columns are small numbers of the characters; 0 stands between two texts, and for every character that is in none.
"""

import numpy as np

from pipeline.core.kernel_cache import kernel, kernel_helper

# An entry of the dense table is target << SHIFT | bound.
SHIFT, BOUND, FAR, ONE = np.uint64(32), np.uint64((1 << 32) - 1), np.uint64((1 << 32) - 1), np.uint64(1)


@kernel_helper
def edge_of(state, wanted, head, column, after):
    """Return the edge of `state` that reads `wanted`, -1 for none."""
    edge = head[state]
    while edge >= 0 and column[edge] != wanted:
        edge = after[edge]
    return edge


@kernel
def build(columns, longest, link, head, column, target, after, ends):
    """Build the automaton of int32 [n] `columns`; returns how many states it has.

    `longest`, `link`, `head` int32 [2 n + 1] and `column`, `target`, `after` int32 [3 n + 1] are filled; `ends` int32
    [n] gets the state of each prefix.
    """
    states, edges, last = 1, 0, 0
    longest[0], link[0], head[0] = 0, -1, -1
    for at in range(len(columns)):
        read = columns[at]
        new = states
        states += 1
        longest[new], head[new] = longest[last] + 1, -1
        ends[at] = new
        state, edge = last, -1
        while state >= 0:
            edge = edge_of(state, read, head, column, after)
            if edge >= 0:
                break
            column[edges], target[edges], after[edges] = read, new, head[state]
            head[state] = edges
            edges += 1
            state = link[state]
        if state < 0:
            link[new] = 0
        elif longest[target[edge]] == longest[state] + 1:
            link[new] = target[edge]
        else:
            old = target[edge]
            clone = states
            states += 1
            longest[clone], link[clone], head[clone] = longest[state] + 1, link[old], -1
            copied = head[old]
            while copied >= 0:
                column[edges], target[edges], after[edges] = column[copied], target[copied], head[clone]
                head[clone] = edges
                edges += 1
                copied = after[copied]
            while state >= 0:
                edge = edge_of(state, read, head, column, after)
                if edge < 0 or target[edge] != old:
                    break
                target[edge] = clone
                state = link[state]
            link[old] = clone
            link[new] = clone
        last = new
    return states


@kernel_helper
def entry_of(target, width, bound):
    """Return the entry of the dense table that leads to the state `target`."""
    return (np.uint64(target) * np.uint64(width) << SHIFT) | np.uint64(bound)


@kernel
def fill(order, longest, link, head, column, target, after, table):
    """Fill the dense `table`, uint64 [states, width]; `order` are the states by their `longest`.

    Entry [state, column] is where the state leads, as target * width << 32 | bound: a match of length m becomes one of
    length min(m + 1, bound). Entries of column 0 are 0, of no match; column 1 is no character's: there the walk keeps
    the longest match that it has seen at a state.
    """
    width = table.shape[1]
    for state in order:
        if state:
            parent = link[state]
            table[state] = table[parent]
            # What the parent reads itself is read there by its longest substring.
            edge = head[parent]
            while edge >= 0:
                if column[edge]:
                    table[state, column[edge]] = entry_of(target[edge], width, longest[parent] + 1)
                edge = after[edge]
        edge = head[state]
        while edge >= 0:
            if column[edge]:
                table[state, column[edge]] = entry_of(target[edge], width, FAR)
            edge = after[edge]
        table[state, :2] = 0


@kernel_helper
def moved(found, length):
    """Return the place and length of a match after a step, from the table's entry and the length before."""
    return found >> SHIFT, min(length + ONE, found & BOUND)


@kernel
def walk_table(ids, column_of, table, floor, walker):
    """Walk `ids` through the flat `table`; `walker` uint64 [2], the place and length of the match, is moved on.

    Matches longer than `floor` are noted in the table. A step waits for the one before it, so four parts of the stream
    are read at once, each as if a text began there. A match that reaches over the beginning of such a part is then
    walked on into it, as long as it is the longer one.
    """
    # Written out, and no function gets an array: numba would count its references at every step, which takes most of
    # the time. Unsigned numbers, or it would look for indices from the end.
    count = np.uint64(len(ids))
    size = count // np.uint64(4)
    b, c, d = size, size + size, size + size + size
    place_a, length_a = walker[0], walker[1]
    place_b = place_c = place_d = length_b = length_c = length_d = np.uint64(0)
    for at in range(size):
        place_a, length_a = moved(table[place_a + column_of[ids[at]]], length_a)
        place_b, length_b = moved(table[place_b + column_of[ids[b + at]]], length_b)
        place_c, length_c = moved(table[place_c + column_of[ids[c + at]]], length_c)
        place_d, length_d = moved(table[place_d + column_of[ids[d + at]]], length_d)
        if length_a > floor:
            table[place_a + ONE] = max(table[place_a + ONE], length_a)
        if length_b > floor:
            table[place_b + ONE] = max(table[place_b + ONE], length_b)
        if length_c > floor:
            table[place_c + ONE] = max(table[place_c + ONE], length_c)
        if length_d > floor:
            table[place_d + ONE] = max(table[place_d + ONE], length_d)
    for at in range(d + size, count):
        place_d, length_d = moved(table[place_d + column_of[ids[at]]], length_d)
        if length_d > floor:
            table[place_d + ONE] = max(table[place_d + ONE], length_d)
    walker[0], walker[1] = place_d, length_d
    # The earliest part comes last: a match of it that reaches the end is the longest.
    for start, open_place, open_length in ((d, place_c, length_c), (c, place_b, length_b), (b, place_a, length_a)):
        at, place, length = start, open_place, open_length
        while at < count and length > at - start:
            place, length = moved(table[place + column_of[ids[at]]], length)
            if length > floor:
                table[place + ONE] = max(table[place + ONE], length)
            at += ONE
        if length > at - start:
            walker[0], walker[1] = place, length


@kernel
def walk_edges(ids, column_of, longest, link, head, column, target, after, best, walker):
    """Walk `ids` along the edges: slower than `walk_table`, in little memory.

    `best` int32 [states] gets the longest match seen at each; `walker` uint64 [2], state and length, is moved on.
    """
    state, length = np.int64(walker[0]), np.int64(walker[1])
    for at in range(len(ids)):
        wanted = np.int64(column_of[ids[at]])
        while True:
            edge = np.int64(head[state]) if wanted else np.int64(-1)
            while edge >= 0 and column[edge] != wanted:
                edge = np.int64(after[edge])
            if edge >= 0 or state == 0:
                break
            state = np.int64(link[state])
            length = np.int64(longest[state])
        state = np.int64(target[edge]) if edge >= 0 else np.int64(0)
        length = length + 1 if edge >= 0 else np.int64(0)
        best[state] = max(best[state], length)
    walker[0], walker[1] = np.uint64(state), np.uint64(length)


@kernel
def spread(order, longest, link, best):
    """Make of the longest match seen at each state the longest one of any of its suffixes, in `best` int32 [states]."""
    for state in order[::-1]:
        if state and best[state]:  # the whole of what a suffix's state stands for was read with it
            best[link[state]] = longest[link[state]]
    for state in order:
        if state:
            best[state] = max(best[state], best[link[state]])

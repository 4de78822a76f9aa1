"""An n-gram model of characters: Kneser-Ney smoothing, interpolated and modified.

Chen and Goodman 1998, "An Empirical Study of Smoothing Techniques for Language Modeling" (TR-10-98), section 3:

    p(w | h) = (c(hw) - D(c(hw)) + r(h) p(w | h')) / c(h)      with h' = h without its first id
    c(h) = sum of c(hw) over w,  r(h) = sum of D(c(hw)) over w;  p(w | h) = p(w | h') if c(h) = 0

c counts occurrences for the longest grams, and distinct left neighbours for all shorter ones. D is 0 for a count of 0;
D(1), D(2), D(3 and more) are estimated for each length from the counts of counts. Below one character is the uniform
distribution over all that can be predicted: every id but padding and the begin symbol.

Grams do not extend over the start of a document. What is at the start of the text or of a document has no left
neighbour; each time counts as one, so grams that begin with the begin symbol have their plain counts, as in KenLM.
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.dataset.dictionary import Ids
from pipeline.model.ngram_kernels import EMPTY, ROOT, SHIFT, SYMBOL, distributions, extend, rehash, score

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Array = npt.NDArray[np.int32]

# Positions that are processed between two looks at the size of the tables.
CHUNK = 1 << 18
# The memory of a model is bounded by both: at most 1.6 GB while such a trie is built.
MOST_CHARS, MOST_NODES = 1 << 25, (1 << 24) - CHUNK
# Where counts of counts give no usable discounts: KenLM's (lmplz --discount_fallback).
FALLBACK = (0.0, 0.5, 1.0, 1.5)


class Trie(NamedTuple):
    """The finished trie as the loops read it; `nodes` are numbered level by level, children next to one another.

    text      int32 [chars]: what the model was built from
    symbols   int32 [nodes]: the last id of each gram
    first     int32 [nodes + 1]: the first child of each node; the next one's first child follows its last
    counts    int32 [nodes]: of the longest grams occurrences, of the others distinct left neighbours
    where     int32 [nodes]: the position of the last id of the gram's only occurrence; -1 - that of one of several
    totals    int32 [nodes]: sum of the children's counts
    reserved  float64 [nodes]: sum of the children's discounts
    discounts float64 [longest + 1, 4]: by length and count, 3 for all from 3 on
    begin     the id that starts a document; -1 if there is none
    uniform   the probability of each id below all counts
    weights   float32 [groups, 2]: exponents of the network's and of the trie's probabilities, by the group of the
              context (`group_of`); no rows in a trie that is not mixed with a network
    """

    text: Array
    symbols: Array
    first: Array
    counts: Array
    where: Array
    totals: Array
    reserved: npt.NDArray[np.float64]
    discounts: npt.NDArray[np.float64]
    begin: int
    uniform: float
    weights: npt.NDArray[np.float32]

    def start(self) -> npt.NDArray[np.int64]:
        """Return the states of a reader that has read nothing, int64 [longest + 1]; see `start`."""
        states = np.full(len(self.discounts), ROOT, dtype=np.int64)
        states[-1] = 1
        return states


NOTHING = np.zeros(0, dtype=np.int32)
NO_TRIE = Trie(
    NOTHING,
    NOTHING,
    NOTHING,
    NOTHING,
    NOTHING,
    NOTHING,
    np.zeros(0),
    np.zeros((1, 4)),
    -1,
    0.0,
    np.zeros((0, 2), np.float32),
)


@dataclass(frozen=True)
class NgramModel:
    """The trie of all grams up to `order` ids and the one they predict.

    `order` is the number of ids a prediction looks back at, as for PPM: order 6 is a 7-gram model. `complete` is False
    if only the end of the training text was used.
    """

    order: int
    vocab_size: int
    complete: bool
    trie: Trie

    @classmethod
    def fit(
        cls,
        ids: Ids,
        *,
        vocab_size: int,
        order: int,
        begin: int | None = None,
        most_chars: int = MOST_CHARS,
        most_nodes: int = MOST_NODES,
    ) -> "NgramModel":
        """Return the model of `ids`, which may be memory-mapped; `begin` is the id that starts a document, if any.

        Only the last `most_chars` ids are used; half of them, as often as needed, if they have more than `most_nodes`
        grams (a text in which long passages repeat).
        """
        text = np.array(ids[max(0, len(ids) - most_chars) :], dtype=np.int32)
        mark = -1 if begin is None else begin
        while (built := _build(text, order + 1, mark, most_nodes)) is None:
            text = text[len(text) // 2 :].copy()
        return cls(order, vocab_size, len(text) == len(ids), trie_of(text, *built, vocab_size=vocab_size, begin=mark))

    def with_weights(self, weights: npt.NDArray[np.float32]) -> "NgramModel":
        """Return the same model with weights for mixing it with a network's probabilities; see `mixture.py`."""
        return replace(self, trie=self.trie._replace(weights=weights))

    @property
    def outcomes(self) -> int:
        """The number of ids that can be predicted: all but padding and the begin symbol."""
        return outcomes(self.vocab_size, self.trie.begin)

    def log_probs(self, ids: Ids, rows: Ints) -> Floats:
        """Return log p of ids[first:stop] for each row (start, first, stop), one row after the other.

        The model knows ids[start] and what follows it, nothing before. `rows` is int64 [n, 3].
        """
        out = np.empty(int((rows[:, 2] - rows[:, 1]).sum()))
        score(self.trie, ids, rows, out)
        return out

    def distributions(self, ids: Ids, rows: Ints) -> tuple[Floats, Ints]:
        """Return the probability of every id at the positions of `rows`, as in `log_probs`: float64 [positions, vocab].

        Padding and the begin symbol have 0. The second array are the groups of the contexts, int64 [positions].
        """
        count = int((rows[:, 2] - rows[:, 1]).sum())
        probs, groups = np.empty((count, self.vocab_size)), np.empty(count, np.int64)
        distributions(self.trie, ids, rows, probs, groups)
        return probs, groups


def outcomes(vocab_size: int, begin: int) -> int:
    """Return the number of ids that can be predicted: all but padding and the begin symbol (-1: there is none)."""
    return vocab_size - 1 - (begin >= 0)


def discounts_of(found: npt.NDArray[np.int64]) -> Floats:
    """Return the discounts of counts 0, 1, 2 and 3 or more, where `found[n]` grams have the count n; int64 [5].

    FALLBACK if one of them cannot be estimated, or leaves a context nothing for what it has not seen.
    """
    one, two, three, four = found[1:].tolist()
    if not (one and two and three):
        return np.array(FALLBACK)
    share = one / (one + 2 * two)
    discounts = np.array([0, 1 - 2 * share * two / one, 2 - 3 * share * three / two, 3 - 4 * share * four / three])
    return discounts if (discounts[1:] > 0).all() else np.array(FALLBACK)


def trie_of(
    text: npt.NDArray[np.int32],
    children: Ints,
    counts: npt.NDArray[np.int32],
    where: npt.NDArray[np.int32],
    discounts: Floats,
    *,
    vocab_size: int,
    begin: int,
) -> Trie:
    """Return the trie whose nodes have these numbers of children, counts and positions; the rest follows from them."""
    nodes = len(counts)
    symbols = text[np.where(where < 0, -1 - where, where)]
    first = np.ones(nodes + 1, dtype=np.int32)
    np.cumsum(children, out=first[1:])
    first[1:] += 1
    # What is predicted after each context, summed over its children; the begin symbol is never predicted.
    levels = np.zeros(nodes, dtype=np.int8)
    at, level = 1, 0
    while at < nodes:
        level += 1
        after = int(first[at])
        levels[at:after] = level
        at = after
    taken = discounts[levels, np.minimum(counts, 3)]
    predicted = (symbols != begin)[1:]
    totals, reserved = np.zeros(nodes, dtype=np.int32), np.zeros(nodes)
    parents = np.flatnonzero(children)
    if len(parents):
        starts = first[parents] - 1
        totals[parents] = np.add.reduceat(counts[1:] * predicted, starts)
        reserved[parents] = np.add.reduceat(taken[1:] * predicted, starts)
    weights = np.empty((0, 2), dtype=np.float32)
    uniform = 1 / outcomes(vocab_size, begin)
    return Trie(text, symbols, first, counts, where, totals, reserved, discounts, begin, uniform, weights)


def _build(text: npt.NDArray[np.int32], longest: int, begin: int, most_nodes: int) -> tuple[Any, ...] | None:
    """Return children, counts, where and discounts of the trie up to `longest` ids; None if it needs more nodes."""
    trie = _GrowingTrie(min(len(text), CHUNK))
    nodes = np.zeros(len(text), dtype=np.int32)
    levels, unstored = [1], [0]
    for level in range(1, longest + 1):
        unstored.append(0)
        for stop in range(len(text), 0, -CHUNK):
            first = max(0, stop - CHUNK)
            trie.reserve(stop - first)
            arrays = (trie.table, trie.raw, trie.counts, trie.where)
            trie.size, unique = extend(text, nodes, level, first, stop, begin, *arrays, trie.size)
            unstored[-1] += unique
            if trie.size > most_nodes:
                return None
        levels.append(trie.size)
    raw, counts, where = (array[: trie.size].copy() for array in (trie.raw, trie.counts, trie.where))
    counts[levels[-2] :] = raw[levels[-2] :]
    if longest == 1:
        counts[nodes[text == begin]] = 0  # it is never predicted
    where[raw != 1] = -1 - where[raw != 1]
    discounts = np.zeros((longest + 1, 4))
    for level in range(1, longest + 1):
        own = counts[levels[level - 1] : levels[level]]
        found = np.bincount(np.minimum(own, 5), minlength=6)[:5]
        found[1] += unstored[level]
        discounts[level] = discounts_of(found)
    order, children = _sorted(trie.table, levels)
    return children, counts[order], where[order], discounts


def _sorted(table: npt.NDArray[np.uint64], levels: list[int]) -> tuple[Ints, Ints]:
    """Return the nodes in their final order, level by level and siblings together, and how many children each has."""
    keys = np.zeros(levels[-1], dtype=np.uint64)
    used = table[table[:, 0] != EMPTY]
    keys[used[:, 1].astype(np.int64)] = used[:, 0]
    parents, symbols = (keys >> SHIFT).astype(np.int64), keys & SYMBOL
    order, number = np.zeros(levels[-1], dtype=np.int64), np.zeros(levels[-1], dtype=np.int64)
    children = np.zeros(levels[-1], dtype=np.int64)
    for first, stop in pairwise(levels):
        own = number[parents[first:stop]]
        order[first:stop] = first + np.argsort(own.astype(np.uint64) << SHIFT | symbols[first:stop])
        number[order[first:stop]] = np.arange(first, stop)
        np.add.at(children, own, 1)
    return order, children


class _GrowingTrie:
    """The arrays of a trie that grows. Node 0, the root, counts as a gram that occurs several times."""

    def __init__(self, grams: int) -> None:
        self.size = 1
        self.table = np.zeros((2, 2), dtype=np.uint64)
        self.raw, self.counts, self.where = (np.zeros(1, dtype=np.int32) for _ in range(3))
        self.raw[0] = 2
        self.reserve(grams)

    def reserve(self, grams: int) -> None:
        """Make space for `grams` more grams; the table is at most half full."""
        needed = self.size + grams
        if needed > len(self.raw):
            more = max(needed, len(self.raw) * 3 // 2) - len(self.raw)
            self.raw, self.counts, self.where = (np.pad(one, (0, more)) for one in (self.raw, self.counts, self.where))
        if 2 * needed > len(self.table):
            larger = np.zeros((1 << (2 * needed - 1).bit_length(), 2), dtype=np.uint64)
            rehash(self.table, larger)
            self.table = larger

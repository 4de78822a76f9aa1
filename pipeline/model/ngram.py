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

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.dataset.dictionary import Ids
from pipeline.model.ngram_kernels import extend, rehash, score, spread, sum_up

Floats = npt.NDArray[np.float64]

# Positions that are processed between two looks at the size of the tables.
CHUNK = 1 << 18
# The memory of a model is bounded by both: at most 1.3 GB while such a trie grows.
MOST_CHARS, MOST_NODES = 1 << 25, (1 << 24) - CHUNK
# Where counts of counts give no usable discounts: KenLM's (lmplz --discount_fallback).
FALLBACK = (0.0, 0.5, 1.0, 1.5)


@dataclass(frozen=True)
class NgramModel:
    """The trie of all grams up to `order` ids and the one they predict; arrays as in `kernels/ngram.py`.

    `order` is the number of ids a prediction looks back at, as for PPM: order 6 is a 7-gram model. `text` is what the
    model was built from, `complete` whether that is the whole training text or only its end.
    """

    order: int
    vocab_size: int
    begin: int
    complete: bool
    text: Ids
    table: npt.NDArray[np.uint64]
    counts: npt.NDArray[np.int32]
    where: npt.NDArray[np.int32]
    totals: npt.NDArray[np.int32]
    reserved: Floats
    discounts: Floats

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
        text, mark = np.array(ids[max(0, len(ids) - most_chars) :]), -1 if begin is None else begin
        while (arrays := _build(text, order + 1, mark, most_nodes)) is None:
            text = text[len(text) // 2 :].copy()
        return cls(order, vocab_size, mark, len(text) == len(ids), text, *arrays)

    @property
    def outcomes(self) -> int:
        """The number of ids that can be predicted: all but padding and the begin symbol."""
        return self.vocab_size - 1 - (self.begin >= 0)

    def log_probs(self, ids: Ids, rows: npt.NDArray[np.int64]) -> Floats:
        """Return log p of ids[first:stop] for each row (start, first, stop), one row after the other.

        The model knows ids[start] and what follows it, nothing before. `rows` is int64 [n, 3].
        """
        out = np.empty(int((rows[:, 2] - rows[:, 1]).sum()))
        score(ids, rows, *self._arrays, out)
        return out

    def distribution(self, context: Ids) -> Floats:
        """Return the probability of every id after `context`, float64 [vocab_size]; 0 for padding and begin."""
        out = np.zeros(self.vocab_size)
        spread(context, *self._arrays, out)
        return out

    @property
    def _arrays(self) -> tuple[Any, ...]:
        trie = (self.table, self.counts, self.where, self.totals, self.reserved, self.discounts)
        return (self.order + 1, self.text, self.begin, *trie, 1 / self.outcomes)


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


def _build(text: Ids, longest: int, begin: int, most_nodes: int) -> tuple[Any, ...] | None:
    """Return the arrays of a model whose longest grams have `longest` ids; None if it needs more nodes."""
    trie = _Trie(min(len(text), CHUNK))
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
    where[raw != 1] = -1
    discounts = np.zeros((longest + 1, 4))
    for level in range(1, longest + 1):
        own = counts[levels[level - 1] : levels[level]]
        found = np.bincount(np.minimum(own, 5), minlength=6)[:5]
        found[1] += unstored[level]
        discounts[level] = discounts_of(found)
    totals, reserved = np.zeros(trie.size, dtype=np.int32), np.zeros(trie.size)
    sum_up(trie.table, counts, np.array(levels), discounts, begin, totals, reserved)
    return trie.table, counts, where, totals, reserved, discounts


class _Trie:
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

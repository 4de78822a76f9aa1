"""The longest copy: how much of a text stands word for word in a stream that may be far larger than memory.

A suffix automaton of the texts is walked over the stream, a chunk at a time: after each id it stands at the longest
suffix of what was read that is a part of one of the texts. One walk does for all texts.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.dataset.dictionary import Dictionary, Ids
from pipeline.evaluation.kernels.copies import build, fill, spread, walk_edges, walk_table

# A table with a row per state is walked several times as fast as edges are; larger ones are not made.
TABLE_BYTES = 128 << 20


class Copies:
    """Looks for the longest copies of `texts` in the ids that `read` is given."""

    def __init__(self, texts: Sequence[str], dictionary: Dictionary, *, table_bytes: int = TABLE_BYTES) -> None:
        # Whatever is in none of the texts, or is no character, has column 0: no match goes over it.
        own = {char: column for column, char in enumerate(sorted(set("".join(texts))), start=2)}
        symbols = dictionary.symbols
        self._column_of = np.zeros(len(symbols), dtype=np.uint64)
        for number in range(dictionary.first_id, len(symbols)):
            self._column_of[number] = own.get(symbols[number], 0)
        columns = np.array([column for text in texts for column in (*(own[char] for char in text), 0)], dtype=np.int32)
        self._lengths = [len(text) for text in texts]
        self._automaton(columns)
        width = 2 + len(own)
        self._table = None
        self._best = np.zeros(len(self._longest), dtype=np.int32)
        self._walker = np.zeros(2, dtype=np.uint64)
        if len(self._longest) * width * 8 <= table_bytes:
            self._table = np.zeros((len(self._longest), width), dtype=np.uint64)
            fill(self._order, self._longest, *self._edges, self._table)

    def read(self, ids: Ids) -> None:
        """Go on through the stream: `ids` follow those of the call before."""
        if self._table is not None:
            walk_table(
                np.asarray(ids), self._column_of, self._table.reshape(-1), np.uint64(self._floor()), self._walker
            )
        else:
            walk_edges(np.asarray(ids), self._column_of, self._longest, *self._edges, self._best, self._walker)

    def longest(self) -> list[int]:
        """Return for each text the length of its longest substring that stands in what was read."""
        best = self._best.copy() if self._table is None else self._table[:, 1].astype(np.int32)
        best[0] = 0
        spread(self._order, self._longest, self._edges[0], best)
        at, found = 0, []
        for length in self._lengths:
            found.append(int(best[self._ends[at : at + length]].max(initial=0)))
            at += length + 1
        return found

    def _floor(self) -> int:
        """Return up to which length a match is no news: every text that could have a longer one has one so long."""
        open_ = [found for found, length in zip(self.longest(), self._lengths, strict=True) if found < length]
        return min(open_, default=len(self._ends))

    def _automaton(self, columns: npt.NDArray[np.int32]) -> None:
        longest, link, head = (np.zeros(2 * len(columns) + 1, dtype=np.int32) for _ in range(3))
        edges = tuple(np.zeros(3 * len(columns) + 1, dtype=np.int32) for _ in range(3))
        self._ends = np.zeros(len(columns), dtype=np.int32)
        states = build(columns, longest, link, head, *edges, self._ends)
        self._longest = longest[:states].copy()
        self._order = np.argsort(self._longest, kind="stable").astype(np.int32)
        self._edges = (link[:states].copy(), head[:states].copy(), *edges)

"""Breaks a perplexity down by position in the window and by character, and counts the most frequent mistakes."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.dataset.dictionary import Dictionary
from pipeline.evaluation.perplexity import Losses

# The number of pairs that are buffered before they are counted.
BUFFERED_PAIRS = 1 << 20

NAMES = {" ": "space", "\n": "newline", "\t": "tab"}


@dataclass
class Breakdown:
    """Sums of losses and counts by position (float64 and int64 [window]) and by label ([vocab]), and the mistakes."""

    position_nll: npt.NDArray[np.float64]
    position_count: npt.NDArray[np.int64]
    label_nll: npt.NDArray[np.float64]
    label_count: npt.NDArray[np.int64]
    wrong: "PairCounts"

    @classmethod
    def empty(cls, *, window: int, vocab_size: int) -> "Breakdown":
        """Return the breakdown of no characters."""
        return cls(
            position_nll=np.zeros(window),
            position_count=np.zeros(window, np.int64),
            label_nll=np.zeros(vocab_size),
            label_count=np.zeros(vocab_size, np.int64),
            wrong=PairCounts(vocab_size),
        )

    def add(self, losses: Losses) -> None:
        """Add a batch."""
        counted = losses.counted
        self.position_nll += np.where(counted, losses.nll, 0.0).sum(axis=0)
        self.position_count += counted.sum(axis=0)
        labels, predicted = losses.labels[counted], losses.predicted[counted]
        np.add.at(self.label_nll, labels, losses.nll[counted])
        np.add.at(self.label_count, labels, 1)
        self.wrong.add(labels[labels != predicted], predicted[labels != predicted])

    def by_position(self) -> pd.DataFrame:
        """Return a table with position (characters read before the prediction, from 1), perplexity and chars."""
        seen = self.position_count > 0
        mean = self.position_nll[seen] / self.position_count[seen]
        return pd.DataFrame(
            {
                "position": np.flatnonzero(seen) + 1,
                "perplexity": np.exp(mean),
                "chars": self.position_count[seen],
            }
        )

    def by_character(self, dictionary: Dictionary, *, most: int = 30) -> pd.DataFrame:
        """Return a table of the `most` characters with the largest share of the loss, in descending order.

        Columns: character, count, mean_nats (mean loss), share_of_loss.
        """
        counts = self.label_count
        seen = np.flatnonzero(counts)
        table = pd.DataFrame(
            {
                "character": [symbol_name(dictionary.symbols[i]) for i in seen],
                "count": counts[seen],
                "mean_nats": self.label_nll[seen] / counts[seen],
                "share_of_loss": self.label_nll[seen] / max(self.label_nll.sum(), math.ulp(0)),
            }
        )
        return table.sort_values("share_of_loss", ascending=False, kind="stable").head(most)

    def mistakes(self, dictionary: Dictionary, *, most: int = 30) -> pd.DataFrame:
        """Return a table of the most frequent mistakes, in descending order.

        Columns: mistake (character → prediction), count, share (of the character's occurrences).
        """
        labels, predicted, counts = self.wrong.most_frequent(most)
        return pd.DataFrame(
            {
                "mistake": [
                    f"{symbol_name(dictionary.symbols[label])} → {symbol_name(dictionary.symbols[prediction])}"
                    for label, prediction in zip(labels, predicted, strict=True)
                ],
                "count": counts,
                "share": counts / self.label_count[labels],
            }
        )


class PairCounts:
    """Counts pairs of ids below `size`; sparse, since a table of all pairs of a large alphabet would be too large."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._keys = np.empty(0, dtype=np.int64)
        self._counts = np.empty(0, dtype=np.int64)
        self._buffer: list[npt.NDArray[np.int64]] = []

    def add(self, first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]) -> None:
        """Count pairs, int64 [n] each."""
        self._buffer.append(first * self.size + second)
        if sum(map(len, self._buffer)) > BUFFERED_PAIRS:
            self._merge()

    def most_frequent(self, most: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return first ids, second ids and counts, int64 [n], by descending count, lower ids first in ties."""
        self._merge()
        order = np.argsort(-self._counts, kind="stable")[:most]
        first, second = np.divmod(self._keys[order], self.size)
        return first, second, self._counts[order]

    def _merge(self) -> None:
        keys = np.concatenate([self._keys, *self._buffer])
        weights = np.concatenate([self._counts, np.ones(len(keys) - len(self._keys), dtype=np.int64)])
        self._keys, places = np.unique(keys, return_inverse=True)
        self._counts = np.bincount(places, weights=weights, minlength=len(self._keys)).astype(np.int64)
        self._buffer = []


def symbol_name(symbol: str) -> str:
    """Return a symbol as plots show it: the name of an invisible one, any other as it is."""
    if symbol in NAMES:
        return NAMES[symbol]
    return symbol if symbol.isprintable() else f"U+{ord(symbol):04X}"

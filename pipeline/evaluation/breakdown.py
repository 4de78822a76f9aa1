"""What explains a perplexity: where in the window, on which characters, and what is taken for what."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.dataset.dictionary import Dictionary
from pipeline.evaluation.perplexity import Losses

# Pairs that are kept as they came before they are counted.
WAITING_PAIRS = 1 << 20

NAMES = {" ": "space", "\n": "newline", "\t": "tab"}


@dataclass
class Breakdown:
    """Losses and counts by position (float64 and int64 [window]) and by label ([vocab]), and the mistakes."""

    position_nll: npt.NDArray[np.float64]
    position_count: npt.NDArray[np.int64]
    label_nll: npt.NDArray[np.float64]
    label_count: npt.NDArray[np.int64]
    wrong: "PairCounts"

    @classmethod
    def empty(cls, *, window: int, vocab_size: int) -> "Breakdown":
        """Return sums of nothing."""
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
        """Return position (from 1: characters read before the prediction), perplexity, chars."""
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
        """Return character, count, mean_nats, share_of_loss of the `most` characters that cost most, these first."""
        counts = self.label_count
        seen = np.flatnonzero(counts)
        table = pd.DataFrame(
            {
                "character": [show(dictionary.symbols[i]) for i in seen],
                "count": counts[seen],
                "mean_nats": self.label_nll[seen] / counts[seen],
                "share_of_loss": self.label_nll[seen] / max(self.label_nll.sum(), math.ulp(0)),
            }
        )
        return table.sort_values("share_of_loss", ascending=False, kind="stable").head(most)

    def mistakes(self, dictionary: Dictionary, *, most: int = 30) -> pd.DataFrame:
        """Return the most frequent mistakes: mistake (character → taken for), count, share of the character's."""
        labels, predicted, counts = self.wrong.most_frequent(most)
        return pd.DataFrame(
            {
                "mistake": [
                    f"{show(dictionary.symbols[label])} → {show(dictionary.symbols[taken])}"
                    for label, taken in zip(labels, predicted, strict=True)
                ],
                "count": counts,
                "share": counts / self.label_count[labels],
            }
        )


class PairCounts:
    """How often each pair of ids below `size` came: as a list of those that did, since an alphabet may be large."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._keys = np.empty(0, dtype=np.int64)
        self._counts = np.empty(0, dtype=np.int64)
        self._waiting: list[npt.NDArray[np.int64]] = []

    def add(self, first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]) -> None:
        """Count pairs, int64 [n] each."""
        self._waiting.append(first * self.size + second)
        if sum(map(len, self._waiting)) > WAITING_PAIRS:
            self._settle()

    def most_frequent(self, most: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return first ids, second ids and counts of the most frequent pairs, these first; of as many the lower ids."""
        self._settle()
        order = np.argsort(-self._counts, kind="stable")[:most]
        first, second = np.divmod(self._keys[order], self.size)
        return first, second, self._counts[order]

    def _settle(self) -> None:
        keys = np.concatenate([self._keys, *self._waiting])
        weights = np.concatenate([self._counts, np.ones(len(keys) - len(self._keys), dtype=np.int64)])
        self._keys, places = np.unique(keys, return_inverse=True)
        self._counts = np.bincount(places, weights=weights, minlength=len(self._keys)).astype(np.int64)
        self._waiting = []


def show(symbol: str) -> str:
    """Return how a symbol is named in a plot: what has no shape by its name, the rest by itself."""
    if symbol in NAMES:
        return NAMES[symbol]
    return symbol if symbol.isprintable() else f"U+{ord(symbol):04X}"

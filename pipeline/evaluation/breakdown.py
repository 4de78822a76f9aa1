"""What explains a perplexity: where in the window, on which characters, and what is taken for what."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.dataset.dictionary import Dictionary
from pipeline.evaluation.perplexity import Losses

NAMES = {" ": "space", "\n": "newline", "\t": "tab"}


@dataclass
class Breakdown:
    """Losses summed by position (float64 [window]) and by label; counts of label against prediction [vocab, vocab]."""

    position_nll: npt.NDArray[np.float64]
    position_count: npt.NDArray[np.int64]
    label_nll: npt.NDArray[np.float64]
    confusion: npt.NDArray[np.int64]

    @classmethod
    def empty(cls, *, window: int, vocab_size: int) -> "Breakdown":
        """Return sums of nothing."""
        return cls(
            position_nll=np.zeros(window),
            position_count=np.zeros(window, np.int64),
            label_nll=np.zeros(vocab_size),
            confusion=np.zeros((vocab_size, vocab_size), np.int64),
        )

    def add(self, losses: Losses) -> None:
        """Add a batch."""
        counted = losses.counted
        self.position_nll += np.where(counted, losses.nll, 0.0).sum(axis=0)
        self.position_count += counted.sum(axis=0)
        np.add.at(self.label_nll, losses.labels[counted], losses.nll[counted])
        np.add.at(self.confusion, (losses.labels[counted], losses.predicted[counted]), 1)

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
        counts = self.confusion.sum(axis=1)
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
        wrong = self.confusion.copy()
        np.fill_diagonal(wrong, 0)
        order = np.argsort(-wrong, axis=None, kind="stable")[:most]
        labels, predicted = np.unravel_index(order, wrong.shape)
        counts = wrong[labels, predicted]
        totals = self.confusion.sum(axis=1)[labels]
        table = pd.DataFrame(
            {
                "mistake": [
                    f"{show(dictionary.symbols[label])} → {show(dictionary.symbols[taken])}"
                    for label, taken in zip(labels, predicted, strict=True)
                ],
                "count": counts,
                "share": counts / np.maximum(totals, 1),
            }
        )
        return table[table["count"] > 0]


def show(symbol: str) -> str:
    """Return how a symbol is named in a plot: what has no shape by its name, the rest by itself."""
    if symbol in NAMES:
        return NAMES[symbol]
    return symbol if symbol.isprintable() else f"U+{ord(symbol):04X}"

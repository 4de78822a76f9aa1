"""Stop strings: a text ends before the first of them, also where one straddles two pieces."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.generation.engine import Row


class StopFilter:
    """Looks at a text as it comes, in pieces of any length."""

    def __init__(self, stops: Sequence[str]) -> None:
        self.stops = tuple(stops)
        self._held = ""

    def feed(self, piece: str) -> tuple[int, bool]:
        """Take the next piece; returns how many characters are now sure, and whether the text ends after them.

        They are counted from the first that was not sure before. The others may be the beginning of a stop string; if
        the text ends, it loses them.
        """
        text = self._held + piece
        found = [(at + len(stop), at) for stop in self.stops if (at := text.find(stop)) >= 0]
        if found:  # the one that is complete first; of several the longest
            return min(found)[1], True
        sure = len(text) - max((_overlap(text, stop) for stop in self.stops), default=0)
        self._held = text[sure:]
        return sure, False


def _overlap(text: str, stop: str) -> int:
    """Return how many of the last characters of `text` begin `stop`."""
    return next(n for n in range(min(len(text), len(stop) - 1), -1, -1) if text.endswith(stop[:n]))


# A text has as many characters as were asked for, or it was over before: at a stop string, or by itself.
FinishReason = Literal["length", "stop"]


class Character(NamedTuple):
    """A written or scored character.

    `log_prob` is the natural logarithm of its probability, the network's own whatever the sampling; `alternatives` are
    the most likely characters with theirs, the likeliest first, if asked for.
    """

    char: str
    log_prob: float
    alternatives: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Completion:
    """What was written after a prompt; `warnings` tell what the model could not read of it.

    `log_probs` float32 [len(completion)] are as in Character.
    """

    prompt: str
    completion: str
    log_probs: npt.NDArray[np.float32] = field(compare=False)
    finish_reason: FinishReason
    warnings: tuple[str, ...]

    @property
    def text(self) -> str:
        """The prompt and what was written after it."""
        return self.prompt + self.completion


@dataclass(frozen=True)
class Score:
    """A text and the logarithm of each character's probability, float32 [len(text)]; `dropped` counts the unknown.

    `predictions` float32 [len(text), vocab] are the logarithms of all probabilities, if they were asked for.
    """

    text: str
    log_probs: npt.NDArray[np.float32] = field(compare=False)
    dropped: int
    predictions: npt.NDArray[np.float32] | None = field(default=None, compare=False)

    @property
    def bits_per_char(self) -> float:
        """The mean of -log2 of the probabilities."""
        return -float(self.log_probs.mean(dtype=np.float64)) / math.log(2)

    @property
    def perplexity(self) -> float:
        """2 to the power of the bits per character."""
        return float(2**self.bits_per_char)


@dataclass(frozen=True)
class Prompt:
    """A prompt as the model reads it: `ids` of the characters it knows, and warnings about the others."""

    ids: npt.NDArray[np.int64]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Piece:
    """Some characters of a text: `log_probs` float32 [n], and `predictions` float32 [n, vocab] if they were asked for.

    Both are the network's own, whatever the sampling.
    """

    text: str
    log_probs: npt.NDArray[np.float32]
    predictions: npt.NDArray[np.float32] | None

    @classmethod
    def of(cls, pieces: "Sequence[Piece]") -> "Piece":
        """Return all `pieces`, at least one, one after the other; all have predictions, or none."""
        every = [piece.predictions for piece in pieces if piece.predictions is not None]
        return cls(
            text="".join(piece.text for piece in pieces),
            log_probs=np.concatenate([piece.log_probs for piece in pieces]),
            predictions=np.concatenate(every) if every else None,
        )

    @classmethod
    def nothing(cls) -> "Piece":
        """Return the piece of no characters."""
        return cls(text="", log_probs=np.empty(0, dtype=np.float32), predictions=None)

    def part(self, start: int, end: int) -> "Piece":
        """Return the characters from `start` to `end`."""
        predictions = None if self.predictions is None else self.predictions[start:end]
        return Piece(self.text[start:end], self.log_probs[start:end], predictions)


@dataclass
class Draft:
    """A text in the making: give what was written of it to `take`, until `finish_reason` is set.

    `row` is what the engine moves; `left` how many characters may still be written; `ended` whether the network ended
    the text by itself, with the end symbol.
    """

    row: Row
    left: int
    stops: StopFilter
    finish_reason: FinishReason | None = None
    ended: bool = False
    _held: Piece | None = None

    def take(self, piece: Piece, *, ended: bool = False) -> Piece:
        """Return the characters that are now sure to belong to the text: of `piece`, and those held back before.

        With `ended` the end symbol stands after `piece`. At most `left` characters are taken: texts are written side by
        side, some further than they go, and what stands there does not count.
        """
        ended = ended and len(piece.text) < self.left
        piece = piece.part(0, self.left)
        whole = piece if self._held is None else Piece.of([self._held, piece])
        self.left -= len(piece.text)
        sure, stopped = self.stops.feed(piece.text)
        if stopped:
            self.finish_reason = "stop"
        elif ended:
            self.finish_reason, self.ended, sure = "stop", True, len(whole.text)
        elif not self.left:
            self.finish_reason, sure = "length", len(whole.text)
        self._held = whole.part(sure, len(whole.text)) if sure < len(whole.text) else None
        return whole.part(0, sure)

"""The types of generated and scored text, and the detection of stop strings in text that arrives in chunks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.generation.engine import BatchRow


class StopFilter:
    """Finds the first of several stop strings in a text that arrives in chunks, also where one spans two chunks."""

    def __init__(self, stops: Sequence[str]) -> None:
        self.stops = tuple(stops)
        self._held = ""

    def feed(self, chunk: str) -> tuple[int, bool]:
        """Take the next chunk; returns the number of characters that are now final, and whether the text ends there.

        They are counted from the first character that was not final before. The remaining ones may be the beginning of
        a stop string; they are dropped if the text ends.
        """
        text = self._held + chunk
        found = [(at + len(stop), at) for stop in self.stops if (at := text.find(stop)) >= 0]
        if found:  # the stop string that is complete first; the longest if several end there
            return min(found)[1], True
        sure = len(text) - max((_overlap(text, stop) for stop in self.stops), default=0)
        self._held = text[sure:]
        return sure, False


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest end of `text` that is a beginning of `stop`, but not all of it."""
    return next(n for n in range(min(len(text), len(stop) - 1), -1, -1) if text.endswith(stop[:n]))


# "length": the text has max_new_chars characters. "stop": it ended before, at a stop string or with the end symbol.
FinishReason = Literal["length", "stop"]


class Character(NamedTuple):
    """A written or scored character.

    `log_prob` is the natural logarithm of its probability by the network, before any sampling option; `alternatives`
    are the likeliest characters and their log-probabilities, the likeliest first, if requested.
    """

    char: str
    log_prob: float
    alternatives: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Completion:
    """The text generated after a prompt; `warnings` describe what of the prompt the model could not read.

    `log_probs` float32 [len(completion)] are as in Character.
    """

    prompt: str
    completion: str
    log_probs: npt.NDArray[np.float32] = field(compare=False)
    finish_reason: FinishReason
    warnings: tuple[str, ...]

    @property
    def text(self) -> str:
        """The prompt and the completion."""
        return self.prompt + self.completion


@dataclass(frozen=True)
class Score:
    """A text and the log-probability of each character, float32 [len(text)]; `dropped` counts unknown characters.

    `predictions` float32 [len(text), vocab] are the log-probabilities of all characters, if requested.
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
    """A prompt as the model reads it: the ids of the characters it knows, and warnings about the others."""

    ids: npt.NDArray[np.int64]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Chunk:
    """Consecutive characters of a text: `log_probs` float32 [n], and `predictions` float32 [n, vocab] if requested.

    Both are the network's own, before any sampling option.
    """

    text: str
    log_probs: npt.NDArray[np.float32]
    predictions: npt.NDArray[np.float32] | None

    @classmethod
    def concatenate(cls, chunks: "Sequence[Chunk]") -> "Chunk":
        """Return `chunks`, at least one, as one chunk; all of them have predictions, or none has."""
        every = [chunk.predictions for chunk in chunks if chunk.predictions is not None]
        return cls(
            text="".join(chunk.text for chunk in chunks),
            log_probs=np.concatenate([chunk.log_probs for chunk in chunks]),
            predictions=np.concatenate(every) if every else None,
        )

    @classmethod
    def empty(cls) -> "Chunk":
        """Return the chunk without characters."""
        return cls(text="", log_probs=np.empty(0, dtype=np.float32), predictions=None)

    def slice(self, start: int, end: int) -> "Chunk":
        """Return the characters from `start` to `end`."""
        predictions = None if self.predictions is None else self.predictions[start:end]
        return Chunk(self.text[start:end], self.log_probs[start:end], predictions)


@dataclass
class TextInProgress:
    """A text that is being written: pass what the engine wrote to `take` until `finish_reason` is set.

    `row` is advanced by the engine; `left` is the number of characters that may still be written; `ended` whether the
    network ended the text itself, with the end symbol.
    """

    row: BatchRow
    left: int
    stops: StopFilter
    finish_reason: FinishReason | None = None
    ended: bool = False
    _held: Chunk | None = None

    def take(self, chunk: Chunk, *, ended: bool = False) -> Chunk:
        """Add what was written and return the characters that are now final, including those held back before.

        `ended` means that the end symbol follows `chunk`. At most `left` characters are taken: all texts of a batch are
        written for the same number of steps, so some are written beyond their end.
        """
        ended = ended and len(chunk.text) < self.left
        chunk = chunk.slice(0, self.left)
        whole = chunk if self._held is None else Chunk.concatenate([self._held, chunk])
        self.left -= len(chunk.text)
        sure, stopped = self.stops.feed(chunk.text)
        if stopped:
            self.finish_reason = "stop"
        elif ended:
            self.finish_reason, self.ended, sure = "stop", True, len(whole.text)
        elif not self.left:
            self.finish_reason, sure = "length", len(whole.text)
        self._held = whole.slice(sure, len(whole.text)) if sure < len(whole.text) else None
        return whole.slice(0, sure)

"""The sampling options: their ranges, and the order in which they are applied to choose the next character.

    1. symbols that are no character (padding, unknown, begin) and characters that are not in `allowed` are excluded;
       the end symbol, if the model has one, is never excluded and treated like a character from here on;
    2. the logit of each character among the last `repetition_window` characters, including the prompt's, is divided by
       `repetition_penalty` if it is positive and multiplied by it if it is not (Keskar et al. 2019, CTRL);
    3. `logit_bias` is added to the logits of its characters; from the logit of each character that the completion
       already has, `presence_penalty` is subtracted once, and `frequency_penalty` as often as the character occurs in
       it (OpenAI's rule: the prompt does not count);
    4. temperature 0 takes the most likely character (the lowest id among equals), and the next steps are skipped;
    5. logits are divided by the temperature;
    6. top-k keeps the k most likely characters (0: all; the lower ids among equals);
    7. top-p keeps the smallest set of the most likely ones whose probabilities sum to at least p (1: all);
    8. min-p drops those less likely than `min_p` times the most likely one;
    9. the remaining probabilities are scaled to sum to 1, and one character is drawn.

These steps are compiled: `choose` in `kernels/drawing.py`.
"""

from dataclasses import dataclass

from pipeline.core.errors import UserError
from pipeline.params.generation import (
    MAX_CHARS,
    MAX_PENALTY,
    MAX_SEED,
    MAX_TEMPERATURE,
    MAX_TOP_K,
    MAX_WINDOW,
    MIN_PENALTY,
)

MAX_STOPS = 16
MAX_STOP_CHARS = 1000
MAX_ADDED_PENALTY = 2.0
MAX_BIAS = 100.0


@dataclass(frozen=True)
class Sampling:
    """How a text is continued; UserError names the option that is out of range.

    At most `max_new_chars` characters are written. `temperature` 0 is greedy. The other options have no effect at
    `top_k` 0, `top_p` 1, `min_p` 0, `repetition_penalty` 1, `frequency_penalty` 0 and `presence_penalty` 0.
    `logit_bias` are pairs of a character (or the end symbol's sign) and what is added to its logit. `allowed` are the
    only characters that may be written (None: all that the model knows). The completion ends before the first of the
    strings in `stop` that would appear. A model with an end symbol may end it sooner.
    """

    max_new_chars: int = 100
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    repetition_window: int = 64
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: tuple[tuple[str, float], ...] = ()
    allowed: str | None = None
    seed: int = 0
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the ranges."""
        _within("max_new_chars", self.max_new_chars, 0, MAX_CHARS)
        _within("temperature", self.temperature, 0, MAX_TEMPERATURE)
        _within("top_k", self.top_k, 0, MAX_TOP_K)
        _within("min_p", self.min_p, 0, 1)
        _within("repetition_penalty", self.repetition_penalty, MIN_PENALTY, MAX_PENALTY)
        _within("repetition_window", self.repetition_window, 0, MAX_WINDOW)
        _within("frequency_penalty", self.frequency_penalty, -MAX_ADDED_PENALTY, MAX_ADDED_PENALTY)
        _within("presence_penalty", self.presence_penalty, -MAX_ADDED_PENALTY, MAX_ADDED_PENALTY)
        for _, bias in self.logit_bias:
            _within("logit_bias", bias, -MAX_BIAS, MAX_BIAS)
        if self.allowed is not None and not self.allowed:
            raise UserError("allowed: found no characters, allowed is at least one, or null for all")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p: found {self.top_p}, allowed is more than 0 and at most 1")
        _within("seed", self.seed, 0, MAX_SEED)
        if len(self.stop) > MAX_STOPS:
            raise UserError(f"stop: found {len(self.stop)} strings, allowed are at most {MAX_STOPS}")
        for text in self.stop:
            if not 0 < len(text) <= MAX_STOP_CHARS:
                raise UserError(f"stop: found a string of {len(text)} characters, allowed are 1 to {MAX_STOP_CHARS}")


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise UserError(f"{name}: found {value}, allowed is {low:g} to {high:g}")

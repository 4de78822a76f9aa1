"""How the next character is chosen: one pure rule, and the numbers it draws with.

The order in which the options apply:
    1. symbols that are no character (padding, unknown) are out;
    2. temperature 0 takes the most likely character (the lowest id among equals) and ends here;
    3. logits are divided by the temperature;
    4. top-k keeps the k most likely (0: all; ties with the k-th go to the lower id);
    5. top-p keeps, from the most likely down, the fewest whose probabilities sum to at least p (1: all);
    6. what is left is scaled to sum to 1, and one character is drawn.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pipeline.errors import UserError

MAX_CHARS = 100_000
MAX_TEMPERATURE = 100.0
MAX_STOPS = 16
MAX_STOP_CHARS = 1000

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Sampling:
    """How a text is continued; UserError names the option that is out of range.

    `max_new_chars` characters at most; `temperature` 0 is greedy; `top_k` 0 and `top_p` 1 leave all; the text ends
    before the first of the strings in `stop` that would appear.
    """

    max_new_chars: int = 100
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        """Check the ranges."""
        _within("max_new_chars", self.max_new_chars, 0, MAX_CHARS)
        _within("temperature", self.temperature, 0, MAX_TEMPERATURE)
        _within("top_k", self.top_k, 0, 1 << 31)
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p: found {self.top_p}, allowed is more than 0 and at most 1")
        _within("seed", self.seed, 0, (1 << 63) - 1)
        if len(self.stop) > MAX_STOPS:
            raise UserError(f"stop: found {len(self.stop)} strings, allowed are at most {MAX_STOPS}")
        for text in self.stop:
            if not 0 < len(text) <= MAX_STOP_CHARS:
                raise UserError(f"stop: found a string of {len(text)} characters, allowed are 1 to {MAX_STOP_CHARS}")


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise UserError(f"{name}: found {value}, allowed is {low} to {high:g}")


def choose(logits: Floats, sampling: Sampling, *, first_id: int, uniform: float) -> int:
    """Return the id of the next character, by the rule above.

    `logits` is float [vocab]; ids below `first_id` are no characters; `uniform` in [0, 1) is what is drawn with.
    """
    scores = logits[first_id:].astype(np.float64)
    if sampling.temperature == 0:
        return first_id + int(scores.argmax())
    # The best score is taken off before dividing: a tiny temperature must not overflow.
    probs = np.exp((scores - scores.max()) / sampling.temperature)
    if 0 < sampling.top_k < len(probs) or sampling.top_p < 1:
        probs = _truncate(probs, sampling)
    sums = np.cumsum(probs)
    at = int(np.searchsorted(sums, uniform * sums[-1], side="right"))
    return first_id + min(at, int(np.flatnonzero(probs)[-1]))


def _truncate(probs: npt.NDArray[np.float64], sampling: Sampling) -> npt.NDArray[np.float64]:
    order = np.argsort(-probs, kind="stable")
    if sampling.top_k > 0:
        order = order[: sampling.top_k]
    if sampling.top_p < 1:
        sums = np.cumsum(probs[order])
        order = order[: int(np.searchsorted(sums, sampling.top_p * sums[-1], side="left")) + 1]
    kept = np.zeros_like(probs)
    kept[order] = probs[order]
    return kept


def uniform_at(seed: int, position: int) -> float:
    """Return the number in [0, 1) that position `position` of a text with `seed` is drawn with.

    SplitMix64's output function (Steele, Lea and Flood 2014) on the position-th state after `seed`: no state is kept,
    so a text depends on its own seed and nothing else.
    """
    mask = (1 << 64) - 1
    z = (seed + (position + 1) * 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return float(((z ^ (z >> 31)) >> 11) * 2.0**-53)

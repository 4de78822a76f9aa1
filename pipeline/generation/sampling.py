"""The sampling options: their ranges, and the order in which they are applied to choose the next character.

    1. symbols that are no character (padding, unknown, begin) and characters that are not in `allowed` are excluded;
       the end symbol, if the model has one, is never excluded and treated like a character from here on;
    2. the logit of each character among the last `repetition_window` characters, including the prompt's, is divided by
       `repetition_penalty` if it is positive and multiplied by it if it is not (Keskar et al. 2019, CTRL);
    3. `logit_bias` is added to the logits of its characters; from the logit of each character that is already in the
       completion, `presence_penalty` is subtracted once, and `frequency_penalty` once for each time that the character
       occurs in it (OpenAI's rule: the prompt does not count);
    4. temperature 0 takes the most likely character (the lowest id among equals), and the next steps are skipped;
    5. logits are divided by the temperature;
    6. top-k keeps the k most likely characters (0: all; the lower ids among equals);
    7. top-p keeps the smallest set of the most likely ones whose probabilities sum to at least p (1: all);
    8. min-p drops those less likely than `min_p` times the most likely one;
    9. the remaining probabilities are scaled to sum to 1, and one character is drawn.

These steps are compiled: `choose` in `kernels/drawing.py`. The options are declared in `pipeline/params/sampling.py`.
"""

from dataclasses import dataclass

from pipeline.core.errors import UserError
from pipeline.params.sampling import MAX_BIAS, MAX_STOP_CHARS, MAX_STOPS, SamplingOptions, sampling_options


@dataclass(frozen=True)
class Sampling(SamplingOptions):
    """How a text is continued, checked: UserError names the option that is out of range.

    At most `max_new_chars` characters are written. `temperature` 0 is greedy. The other options have no effect at
    `top_k` 0, `top_p` 1, `min_p` 0, `repetition_penalty` 1, `frequency_penalty` 0 and `presence_penalty` 0.
    `logit_bias` are pairs of a character (or the end symbol's sign) and what is added to its logit. `allowed` are the
    only characters that may be written (None: all that the model knows). The completion ends before the first of the
    strings in `stop` that would appear. A model with an end symbol may end it sooner.
    """

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, option in sampling_options().items():
            value = getattr(self, name)
            if not option.is_within(value):
                raise UserError(f"{name}: found {value}, allowed is {option.allowed}")
        for _, bias in self.logit_bias:
            if not -MAX_BIAS <= bias <= MAX_BIAS:
                raise UserError(f"logit_bias: found {bias}, allowed is {-MAX_BIAS:g} to {MAX_BIAS:g}")
        if self.allowed is not None and not self.allowed:
            raise UserError("allowed: found no characters, allowed is at least one, or null for all")
        if len(self.stop) > MAX_STOPS:
            raise UserError(f"stop: found {len(self.stop)} strings, allowed are at most {MAX_STOPS}")
        for text in self.stop:
            if not 0 < len(text) <= MAX_STOP_CHARS:
                raise UserError(f"stop: found a string of {len(text)} characters, allowed are 1 to {MAX_STOP_CHARS}")

"""The sampling options, declared once (type, bounds, default and description), and the order in which they apply.

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

These steps are compiled: `choose` in `pipeline/generation/drawing.py`. params.yaml, `Sampling`, the server's
request, MLflow's params and the help of `charlm generate` take the options from here; a test compares the sliders of
the page with them.
"""

from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import Field
from pydantic.fields import FieldInfo

from pipeline.core.errors import UserError

Precision = Literal["fp32", "bf16"]

MAX_CHARS = 100_000
MAX_STOPS = 16
MAX_STOP_CHARS = 1000
MAX_BIAS = 100.0

MaxNewChars = Annotated[int, Field(ge=0, le=MAX_CHARS, description="characters to write at most")]
Temperature = Annotated[float, Field(ge=0, le=100, description="0: greedy; 1: the model's own distribution")]
TopK = Annotated[int, Field(ge=0, le=1 << 31, description="draw from the k most likely characters; 0: all")]
TopP = Annotated[float, Field(gt=0, le=1, description="draw from the most likely whose probabilities sum to p; 1: all")]
MinP = Annotated[
    float, Field(ge=0, le=1, description="drop what is less likely than this share of the most likely; 0: nothing")
]
RepetitionPenalty = Annotated[
    float, Field(ge=0.01, le=100, description="over 1: characters in the repetition window become less likely; 1: off")
]
RepetitionWindow = Annotated[
    int, Field(ge=0, le=1000, description="number of last characters that the repetition penalty looks at")
]
NgramWeight = Annotated[
    float, Field(ge=0, le=1, description="how much the n-gram model counts; lower copies less; 0: the network alone")
]
AddedPenalty = Annotated[float, Field(ge=-2, le=2)]
Seed = Annotated[int, Field(ge=0, le=(1 << 63) - 1, description="the same seed gives the same text")]


@dataclass(frozen=True)
class SamplingOptions:
    """How a text is continued. With the defaults, characters are drawn from the model's own distribution."""

    max_new_chars: MaxNewChars = 100
    temperature: Temperature = 1.0
    top_k: TopK = 0
    top_p: TopP = 1.0
    min_p: MinP = 0.0
    repetition_penalty: RepetitionPenalty = 1.0
    repetition_window: RepetitionWindow = 64
    frequency_penalty: Annotated[
        AddedPenalty, Field(description="subtracted for each time that the completion has the character; 0: off")
    ] = 0.0
    presence_penalty: Annotated[
        AddedPenalty, Field(description="subtracted once if the completion has the character; 0: off")
    ] = 0.0
    ngram_weight: NgramWeight = 1.0
    logit_bias: Annotated[
        tuple[tuple[str, float], ...], Field(description="characters, and what is added to their logits")
    ] = ()
    allowed: Annotated[str | None, Field(description="write no other characters than these")] = None
    seed: Seed = 0
    stop: Annotated[
        tuple[str, ...], Field(description="end before the first of these strings; may be given several times")
    ] = ()


@dataclass(frozen=True)
class Option:
    """A sampling option: its type, default and description; `low` and `high` are None if it has no bounds."""

    kind: Any
    default: Any
    description: str
    low: float | None
    high: float | None
    low_allowed: bool

    def is_within(self, value: float) -> bool:
        """Return whether `value` is within the bounds; NaN is not."""
        if self.low is None or self.high is None:
            return True
        return (self.low <= value if self.low_allowed else self.low < value) and value <= self.high

    @property
    def allowed(self) -> str:
        """The bounds, for a message."""
        if self.low_allowed:
            return f"{self.low:g} to {self.high:g}"
        return f"more than {self.low:g} and at most {self.high:g}"

    @property
    def help(self) -> str:
        """The description, as a sentence."""
        return f"{self.description[0].upper()}{self.description[1:]}."


@cache
def sampling_options() -> dict[str, Option]:
    """Return all sampling options by their names."""
    hints = get_type_hints(SamplingOptions, include_extras=True)
    return {one.name: _option(hints[one.name], one.default) for one in fields(SamplingOptions)}


def _option(hint: Any, default: Any) -> Option:
    infos = [info for info in hint.__metadata__ if isinstance(info, FieldInfo)]
    bounds = {
        name: getattr(bound, name)
        for info in infos
        for bound in info.metadata
        for name in ("ge", "gt", "le")
        if hasattr(bound, name)
    }
    return Option(
        kind=hint.__origin__,
        default=default,
        description=next(info.description for info in infos if info.description),
        low=bounds.get("ge", bounds.get("gt")),
        high=bounds.get("le"),
        low_allowed="gt" not in bounds,
    )


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

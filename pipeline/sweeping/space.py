"""The search space of a sweep: ranges and choices of params, and their values as text for dvc's -S option."""

import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from pipeline.params.base import Group

# Drawn values are rounded to this number of significant digits, so that the printed value is exactly the trained one.
DIGITS = 4
MAX_CORNERS = 512


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"found {json.dumps(value)}, allowed is a number")  # noqa: TRY004  pydantic reads ValueError
    return value


Number = Annotated[Any, BeforeValidator(_number)]


class Range(Group):
    """Numbers from `low` to `high`, both included; integers if both are integers.

    `log` draws the logarithm uniformly; `step` restricts the values to low, low + step, …
    """

    low: Number
    high: Number
    log: bool = False
    step: Number = None

    @model_validator(mode="after")
    def _sound(self) -> "Range":
        if not self.low < self.high:
            raise ValueError(f"found low {self.low} and high {self.high}, allowed is a low under high")
        if self.log and self.low <= 0:
            raise ValueError(f"found log with low {self.low}, allowed is a low over 0")
        if self.step is not None:
            if self.log:
                raise ValueError("found log and step, allowed is one of them")
            if not 0 < self.step <= self.high - self.low:
                raise ValueError(f"found step {self.step}, allowed is over 0 and at most {self.high - self.low}")
            if self.is_whole and not isinstance(self.step, int):
                raise ValueError(f"found step {self.step} between whole numbers, allowed is a whole one")
        return self

    @property
    def is_whole(self) -> bool:
        """Return whether the values are ints."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def rounded(self, value: float) -> int | float:
        """Return a drawn value as an int, or rounded to DIGITS digits within the range."""
        if self.is_whole:
            return int(value)
        return float(min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high))

    def ends(self) -> list[Any]:
        """Return the values that must be allowed for all to be."""
        return [self.low, self.high]

    def holds(self, value: Any) -> bool:
        """Return whether `value` can be drawn."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        if self.is_whole and value != int(value):
            return False
        if self.step is None:
            return True
        steps = (value - self.low) / self.step
        return bool(abs(steps - round(steps)) < 1e-8)  # noqa: PLR2004  rounding of the division


class Choices(Group):
    """One of several values, of any type that params.yaml can have."""

    choices: Annotated[tuple[Any, ...], Field(min_length=2)]

    @model_validator(mode="after")
    def _distinct(self) -> "Choices":
        if len(set(self.texts())) < len(self.choices):
            raise ValueError(f"found {json.dumps(self.choices)}, allowed are distinct values")
        return self

    def texts(self) -> list[str]:
        """Return the choices as JSON, which is what Optuna stores, so that lists can be choices too."""
        return [json.dumps(choice) for choice in self.choices]

    def ends(self) -> list[Any]:
        """Return the values that must be allowed for all to be."""
        return list(self.choices)

    def holds(self, value: Any) -> bool:
        """Return whether `value` is one of them."""
        return json.dumps(value) in self.texts()


Dimension = Range | Choices


def corners(search: Mapping[str, Dimension]) -> Iterator[dict[str, Any]]:
    """Yield combinations of the extreme values: all of them, or each value once if there are too many."""
    ends = {key: dimension.ends() for key, dimension in search.items()}
    count = 1
    for values in ends.values():
        count *= len(values)
    if count <= MAX_CORNERS:
        for corner in itertools.product(*ends.values()):
            yield dict(zip(ends, corner, strict=True))
        return
    for number in range(max(map(len, ends.values()))):
        yield {key: each[min(number, len(each) - 1)] for key, each in ends.items()}


def option_text(value: Any) -> str:
    """Return a value as the text after "key=" in an -S option."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))

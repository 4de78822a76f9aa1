"""Group `evaluate`: the protocol behind every perplexity."""

from typing import Annotated

from pydantic import Field

from pipeline.params.base import Group


class EvaluateParams(Group):
    """Windows of `window` characters from zero state; `batch_size` windows at once (it enters the batch mean only).

    `baseline_order` is the number of characters that the n-gram baseline looks back at; 0: no baseline.
    """

    window: Annotated[int, Field(ge=2, le=65_535)] = 100
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 32
    baseline_order: Annotated[int, Field(ge=0, le=16)] = 9

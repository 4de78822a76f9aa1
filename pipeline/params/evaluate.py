"""Group `evaluate`: the protocol behind every perplexity."""

from typing import Annotated

from pydantic import Field

from pipeline.params.base import Group


class EvaluateParams(Group):
    """Windows of `window` characters from zero state; `batch_size` windows at once (it enters the batch mean only)."""

    window: Annotated[int, Field(ge=2, le=65_535)] = 100
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 32

"""Group `split`: the dictionary, and which text trains."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from pipeline.params.base import Group

Length = Annotated[int, Field(ge=2, le=65_535)]


class SplitParams(Group):
    """The first `train_fraction` of the text trains, the rest evaluates; samples have the lengths of `buckets`."""

    buckets: Annotated[tuple[Length, ...], Field(min_length=1)] = (100,)
    train_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.9
    dictionary_from: Literal["all", "train"] = "all"

    @field_validator("buckets")
    @classmethod
    def _distinct_and_rising(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if list(value) != sorted(set(value)):
            raise ValueError(f"found {list(value)}, allowed are distinct lengths in rising order")
        return value

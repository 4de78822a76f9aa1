"""Group `generate`: the samples that show what the model writes."""

from typing import Annotated

from pydantic import Field

from pipeline.params.base import Group


class GenerateParams(Group):
    """For each prompt one greedy text and `num_samples` drawn ones. `top_k: 0` and `top_p: 1` leave all characters."""

    prompts: Annotated[tuple[str, ...], Field(min_length=1)] = ("The United States are",)
    num_chars: Annotated[int, Field(ge=1, le=1_000_000)] = 300
    num_samples: Annotated[int, Field(ge=0, le=1000)] = 2
    temperature: Annotated[float, Field(ge=0, le=100)] = 0.8
    top_k: Annotated[int, Field(ge=0)] = 0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    seed: Annotated[int, Field(ge=0)] = 7

"""Group `generate`: the samples that show what the model writes."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.params.base import Group

Precision = Literal["fp32", "bf16"]

# The bounds of every way to ask for text: params.yaml, the command line and the server (generation/sampling.py).
MAX_CHARS = 100_000
MAX_TEMPERATURE = 100.0
MAX_TOP_K = 1 << 31
MIN_PENALTY, MAX_PENALTY = 0.01, 100.0
MAX_WINDOW = 1000
MAX_SEED = (1 << 63) - 1


class GenerateParams(Group):
    """For each prompt one greedy text and `num_samples` drawn ones.

    `top_k: 0`, `top_p: 1`, `min_p: 0` and `repetition_penalty: 1` leave all characters; the penalty looks back at
    `repetition_window` characters. The order in which they apply: `pipeline/generation/sampling.py`. `precision: bf16`
    rounds the weights, which makes large networks faster.
    """

    prompts: Annotated[tuple[str, ...], Field(min_length=1)] = ("The United States are",)
    num_chars: Annotated[int, Field(ge=1, le=MAX_CHARS)] = 300
    num_samples: Annotated[int, Field(ge=0, le=1000)] = 2
    temperature: Annotated[float, Field(ge=0, le=MAX_TEMPERATURE)] = 0.8
    top_k: Annotated[int, Field(ge=0, le=MAX_TOP_K)] = 0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    repetition_penalty: Annotated[float, Field(ge=MIN_PENALTY, le=MAX_PENALTY)] = 1.0
    repetition_window: Annotated[int, Field(ge=0, le=MAX_WINDOW)] = 64
    precision: Precision = "fp32"
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 7

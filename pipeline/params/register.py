"""Group `register`: the model's name in MLflow's registry, and the gate to `champion`."""

from typing import Annotated

from pydantic import Field

from pipeline.params.base import Group


class RegisterParams(Group):
    """`enabled: false` logs the model without registering it; `max_perplexity` is what a champion may have at most."""

    enabled: bool = True
    model_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.\- ]{1,100}$")] = "charlm"
    max_perplexity: Annotated[float, Field(gt=1)] = 5.0

"""What all groups of params share: frozen, strict, and no key they do not know."""

from pydantic import BaseModel, ConfigDict


class Group(BaseModel):
    """One group of params.yaml.

    Frozen; refuses unknown keys, values of another type ("128" is no number) and NaN or infinity.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

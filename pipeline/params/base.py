"""The base class of all groups of params: frozen and strict, without unknown keys."""

from pydantic import BaseModel, ConfigDict


class Group(BaseModel):
    """One group of params.yaml.

    Refuses unknown keys, values of another type (the string "128" is not a number), NaN and infinity.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

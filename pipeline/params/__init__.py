"""Reads and validates params.yaml as frozen types; reads dvc.lock. `Group` is the base class of all groups."""

from pydantic import BaseModel, ConfigDict


class Group(BaseModel):
    """One group of params.yaml.

    Refuses unknown keys, values of another type (the string "128" is not a number), NaN and infinity.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

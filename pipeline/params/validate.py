"""Group `validate`: what the data must be like before a training starts."""

from typing import Annotated

from pydantic import Field

from pipeline.params.base import Group


class ValidateParams(Group):
    """`max_overlap` is the greatest allowed share of eval windows that also stand, whole, in the training split."""

    max_overlap: Annotated[float, Field(ge=0, le=1)] = 0.01
    data_docs: bool = True

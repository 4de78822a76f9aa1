"""Group `split`: the dictionary, what a sample is, and which text trains."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from pipeline.params.base import Group

Length = Annotated[int, Field(ge=2, le=65_535)]
Column = Annotated[str, Field(min_length=1)]


class SplitParams(Group):
    """What a sample is, and which text trains, evaluates and tests.

    `samples: stream` cuts the documents, joined to one text, into windows; with `documents` or `lines` a sample is one
    of these between a begin and an end symbol, cut only if it is longer than the longest of `buckets`. `auto` chooses
    the buckets' lengths so that at most 5 % of a batch is padding.

    `by: position` takes the first `train_fraction` to train and the last `test_fraction` to test; what is left
    evaluates. `document` draws each document's side by a hash of its name, or of its value in the column `group_by`.
    `column` takes rows whose value in `column` is at most `train_until` to train, at most `eval_until` to evaluate, and
    the later ones to test (without `eval_until` all later ones evaluate); without `train_until` the column itself says
    train, eval or test.
    """

    samples: Literal["stream", "documents", "lines"] = "stream"
    buckets: Annotated[tuple[Length, ...], Field(min_length=1)] | Literal["auto"] = (100,)
    by: Literal["position", "document", "column"] = "position"
    train_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.9
    test_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    group_by: Column | None = None
    column: Column | None = None
    train_until: int | float | str | None = None
    eval_until: int | float | str | None = None
    dictionary_from: Literal["all", "train"] = "all"

    @field_validator("buckets")
    @classmethod
    def _distinct_and_rising(cls, value: tuple[int, ...] | str) -> tuple[int, ...] | str:
        if not isinstance(value, str) and list(value) != sorted(set(value)):
            raise ValueError(f"found {list(value)}, allowed are distinct lengths in rising order, or auto")
        return value

    @model_validator(mode="after")
    def _sides(self) -> "SplitParams":
        if self.train_fraction + self.test_fraction >= 1:
            raise ValueError(
                f"train_fraction {self.train_fraction:g} and test_fraction {self.test_fraction:g} leave no eval text; "
                "allowed is a sum under 1"
            )
        if (self.by == "column") != (self.column is not None):
            raise ValueError("column is for by: column, and by: column needs one")
        if self.group_by is not None and self.by != "document":
            raise ValueError("group_by is for by: document")
        if self.train_until is not None and self.by != "column":
            raise ValueError("train_until is for by: column")
        if self.eval_until is not None and self.train_until is None:
            raise ValueError("eval_until needs train_until")
        if self.train_until is not None and self.eval_until is not None:
            texts = isinstance(self.train_until, str), isinstance(self.eval_until, str)
            if texts[0] != texts[1] or self.eval_until < self.train_until:  # type: ignore[operator]
                raise ValueError(f"eval_until {self.eval_until!r} comes before train_until {self.train_until!r}")
        return self

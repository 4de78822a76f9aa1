"""Group `validate`: what the data must be like before a training starts."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from pipeline.params.base import Group

# Every expectation by name, in the order in which they are checked: pipeline/corpus/contracts.py says what each means.
EXPECTATIONS = (
    "documents_present",
    "documents_named",
    "documents_distinct",
    "documents_whole",
    "documents_have_text",
    "documents_not_empty",
    "dictionary_distinct",
    "dictionary_sorted",
    "dictionary_used",
    "ids_within_dictionary",
    "no_padding_in_text",
    "whole_text_split",
    "fractions_as_asked",
    "samples_in_order",
    "samples_within_text",
    "every_character_labelled",
    "no_character_labelled_twice",
    "documents_bounded",
    "no_begin_labelled",
    "labels_one_on",
    "no_document_on_both_sides",
    "eval_not_in_train",
    "overlap_is_low",
    "train_fills_a_batch",
    "eval_fills_a_window",
)


class ValidateParams(Group):
    """What stops the pipeline, and what only warns.

    `fail_on` lists the expectations that stop it; the others warn. `all` is every one but `overlap_is_low`.

    The overlap is the share of the eval (or test) text's 50-character substrings that also occur in the training text.
    Over `warn_overlap` there is a warning; over `max_overlap`, when most of the text is a copy, the pipeline stops.

    There is a warning too if the characters' frequencies differ from the champion's by more than `max_drift` bits
    (Jensen-Shannon divergence), or if the text has new characters.
    """

    fail_on: tuple[str, ...] | Literal["all"] = "all"
    warn_overlap: Annotated[float, Field(ge=0, le=1)] = 0.01
    max_overlap: Annotated[float, Field(ge=0, le=1)] = 0.5
    max_drift: Annotated[float, Field(ge=0, le=1)] = 0.01
    data_docs: bool = True

    @field_validator("fail_on")
    @classmethod
    def _known(cls, value: tuple[str, ...] | str) -> tuple[str, ...] | str:
        if not isinstance(value, str):
            for name in value:
                if name not in EXPECTATIONS:
                    raise ValueError(f"found {name!r}, allowed are all, or a list of {', '.join(EXPECTATIONS)}")
        return value

"""Group `clean`: which characters and which documents stay."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.params.base import Group


class CleanParams(Group):
    """How text is normalised.

    `charset: ascii` transliterates and then keeps what is printable ASCII; `unicode` keeps every script, in the
    normal form `normalize`. Newlines and tabs stay if `keep_newlines` and `keep_tabs` say so; other control
    characters are dropped, made a space or kept (`control`), and newlines and tabs that do not stay are dropped or
    made a space likewise. `whitespace: collapse` makes a run of spaces and tabs one space, takes it away at a line's
    ends, and leaves at most one empty line. Characters that occur fewer than `min_count` times become the unknown
    symbol. Of documents with the same text the first one stays, unless `duplicates` keeps all.
    """

    charset: Literal["ascii", "unicode"] = "ascii"
    normalize: Literal["nfc", "nfkc"] = "nfc"
    keep_newlines: bool = True
    keep_tabs: bool = False
    lowercase: bool = False
    whitespace: Literal["keep", "collapse"] = "keep"
    control: Literal["drop", "space", "keep"] = "drop"
    min_count: Annotated[int, Field(ge=0)] = 0
    duplicates: Literal["drop", "keep"] = "drop"

    @model_validator(mode="after")
    def _no_idle_option(self) -> "CleanParams":
        if self.charset == "ascii" and self.normalize == "nfkc":
            raise ValueError("normalize: nfkc is for charset unicode; allowed under ascii is nfc")
        if self.charset == "ascii" and self.control == "keep":
            raise ValueError("control: keep is for charset unicode; allowed under ascii are drop and space")
        return self

"""Group `clean`: which characters stay."""

from typing import Literal

from pipeline.params.base import Group


class CleanParams(Group):
    """How text is normalised.

    `ascii` transliterates and then keeps what is printable ASCII; `unicode` is NFC and keeps every script.
    """

    charset: Literal["ascii", "unicode"] = "ascii"
    keep_newlines: bool = True
    lowercase: bool = False

"""The exception for wrong input: commands print its message as one line and exit with code 2, without traceback."""

import re

# The user name and password in an address, which come before the host; a password may contain a slash.
LOGIN = re.compile(r"(?<=://)(?:[^/?\s:@'\"]*:(?!\d+/)[^@\s'\"]*|[^/?\s]*)@")
# What looks like a credential in the query of an address: the value of `sig`, `access_token`, `password`, …
SECRET = re.compile(r"(?i)([?&#][\w.-]*(?:sig|token|key|secret|pass|pwd|auth|cred)[\w.-]*=)[^\s&'\"]+")


class UserError(Exception):
    """Wrong input, reported to the person who can correct it.

    The message is one line that names the file or the params key, what was found and what is allowed.
    """

    exit_code = 2


def one_line(error: object, *, most: int | None = None) -> str:
    """Return the message of an error as one line of at most `most` characters, without credentials in addresses."""
    return without_secrets(" ".join(str(error).split()))[:most]


def without_secrets(text: str) -> str:
    """Return `text` without what looks like a credential in an address: a login, or a signature in the query."""
    return SECRET.sub(r"\1…", LOGIN.sub("", text))

"""The exception for wrong input: commands print its message as one line and exit with code 2, without traceback."""

import re

# The user name and password in an address, which come before the host.
LOGIN = re.compile(r"(?<=://)[^/?\s]*@")


class UserError(Exception):
    """Wrong input, reported to the person who can correct it.

    The message is one line that names the file or the params key, what was found and what is allowed.
    """

    exit_code = 2


def one_line(error: object, *, most: int | None = None) -> str:
    """Return the message of an error as one line of at most `most` characters, without logins in addresses."""
    return LOGIN.sub("", " ".join(str(error).split()))[:most]

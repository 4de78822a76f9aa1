"""The one exception that means "the input is wrong": it becomes one line and exit code 2, never a traceback."""

import re

# What may stand before the host of an address: a name and a password.
SECRETS = re.compile(r"(?<=://)[^/@\s]+@")


class UserError(Exception):
    """Bad input, told to the person who can mend it.

    The message is one line that names the file or the params key, what was found and what is allowed.
    """

    exit_code = 2


def one_line(error: object) -> str:
    """Return what an error says, as one line without the passwords of the addresses in it."""
    return SECRETS.sub("", " ".join(str(error).split()))

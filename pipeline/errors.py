"""The one exception that means "the input is wrong": it becomes one line and exit code 2, never a traceback."""


class UserError(Exception):
    """Bad input, told to the person who can mend it.

    The message is one line that names the file or the params key, what was found and what is allowed.
    """

    exit_code = 2

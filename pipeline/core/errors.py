"""The exception for wrong input: commands print its message as one line and exit with code 2, without traceback."""

import errno
import os
import re

# The user name and password in an address, which come before the host; a password may contain a slash.
LOGIN = re.compile(r"(?<=://)(?:[^/?\s]*|[^/?\s:@'\"]*:(?!\d+/)[^@\s'\"]*)@")
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


class DiskError(UserError, OSError):
    """A file cannot be written: the disk is full, or the folder may not be written to."""


FULL, QUOTA = "the disk is full", "the disk quota is used up"
TOO_LARGE = "the file is larger than this process may write"
READ_ONLY, DENIED = "the disk is read-only", "access is denied"
CAUSES = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: QUOTA,
    errno.EFBIG: TOO_LARGE,
    errno.EROFS: READ_ONLY,
    errno.EACCES: DENIED,
    errno.EPERM: DENIED,
}
# What SQLite, NumPy and libraries in Rust or C++ say; SQLite has one message for every failed write.
MESSAGES = {
    "no space left on device": FULL,
    "database or disk is full": FULL,
    "disk quota exceeded": QUOTA,
    "file too large": TOO_LARGE,
    "read-only file system": READ_ONLY,
    "(os error 13)": DENIED,
    "attempt to write a readonly database": DENIED,
    "unable to open database file": "the database cannot be opened or written",
    "disk i/o error": "the disk is full, or cannot be written",
    " requested and ": "the disk is full, or cannot be written",
}


def disk_problem(error: BaseException | None, *, folder: str = "") -> str | None:
    """Return in a few words why a file cannot be written, if that caused `error`; None for all other errors.

    It begins with the file's path if the error has one; names in `folder` are relative to it.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if (found := _cause(error)) is not None:
            name = getattr(error, "filename", None)
            path = os.fsdecode(name).removeprefix(f"{folder}{os.sep}") if isinstance(name, str | bytes) else ""
            return f"{path}: {found}" if path else found
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


def _cause(error: BaseException) -> str | None:
    if isinstance(error, OSError) and error.errno in CAUSES:
        return CAUSES[error.errno]
    text = str(error).lower()
    return next((words for words_in, words in MESSAGES.items() if words_in in text), None)

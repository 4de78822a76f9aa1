"""Addresses of texts that lie elsewhere: how they are told, and what their copies here are called.

Passwords and signatures stand before the host or in the query: neither is told, and no name has them.
"""

import hashlib
import re
from pathlib import PurePosixPath

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# File systems allow 255 bytes; the end of a name says what the file holds.
NAME_CHARACTERS = 60
LOGIN = re.compile(r"(?<=://)[^/]*@")


def scheme_of(source: str) -> str | None:
    """Return the scheme of an address in lower case ("https", "s3", …), None for a path."""
    found = SCHEME.match(source)
    return found[1].lower() if found else None


def shown(address: str) -> str:
    """Return an address as it may be told: without login and query."""
    return LOGIN.sub("", address.partition("?")[0])


def kept_name(address: str) -> str:
    """Return the name of the copy of `address`: its hash, a dash, and the file's own name (the end of a long one)."""
    name = PurePosixPath(shown(address).partition("://")[2].partition("/")[2]).name or "download"
    return f"{hash_of(address)}-{name[-NAME_CHARACTERS:]}"


def hash_of(address: str) -> str:
    """Return 16 hexadecimal digits that stand for `address`."""
    return hashlib.sha256(address.encode()).hexdigest()[:16]


def own_name(kept: str) -> str:
    """Return the file's own name, of a name that `kept_name` made."""
    return kept.partition("-")[2]

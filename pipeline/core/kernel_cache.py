"""How the kernels are compiled, and where the machine code is kept.

A kernel is a function in a folder of kernels (`generation/kernels`, `corpus/kernels`). numba looks for its cache
beside the source file, so a copy of the code (a served model, a temporary experiment) would compile everything again.
Here the cache lies in the user's own cache folder under a hash of the source of all kernels beside it: every copy of
the same source finds it, and a change in any of them finds none of the old.
"""

import hashlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
import platformdirs
from numba.core.caching import _CacheLocator

# "contract" lets the compiler fuse a product and a sum, nothing else: sums keep their order, so a text's numbers do not
# depend on the company it is computed in.
OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}


def part(function: Callable[..., Any]) -> Any:
    """Compile a function that other kernels call; its code is kept in theirs."""
    return numba.njit(**OPTIONS)(function)


def entry(function: Callable[..., Any]) -> Any:
    """Compile a function that Python calls; its machine code is kept on disk."""
    before = numba.config.CACHE_LOCATOR_CLASSES
    numba.config.CACHE_LOCATOR_CLASSES = f"{__name__}.{OneFolder.__name__}"
    try:
        return numba.njit(cache=True, **OPTIONS)(function)
    except RuntimeError:  # no folder to write to: compile in each process
        return numba.njit(**OPTIONS)(function)
    finally:
        numba.config.CACHE_LOCATOR_CLASSES = before


class OneFolder(_CacheLocator):
    """Where numba keeps an entry's machine code: see the module's text."""

    def __init__(self, py_func: Callable[..., Any]) -> None:
        # numba's warnings name these
        self._py_file, self._lineno = py_func.__code__.co_filename, py_func.__code__.co_firstlineno
        self._module = py_func.__module__.rpartition(".")[2]

    def get_cache_path(self) -> str:
        """Return the folder."""
        return str(cache_folder(Path(self._py_file).parent))

    def get_source_stamp(self) -> str:
        """Return what the code is: numba drops what was kept with another stamp."""
        return source_hash(Path(self._py_file).parent)

    def get_disambiguator(self) -> str:
        """Return what tells this entry from one of the same name in another module."""
        return self._module

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> "OneFolder | None":
        """Return the locator, None if the folder cannot be used."""
        del py_file
        folder = cache_folder(Path(py_func.__code__.co_filename).parent)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # What lies there is run: a folder that others can write to is none of ours.
            others = os.name == "posix" and (folder.stat().st_uid != os.getuid() or folder.stat().st_mode & 0o022)
        except OSError:
            return None
        return None if others or not os.access(folder, os.W_OK) else cls(py_func)


@cache
def source_hash(kernels: Path) -> str:
    """Return a hash of the source of all kernels in the folder `kernels`, and of how they are compiled."""
    digest = hashlib.sha256(numba.__version__.encode())
    for path in [Path(__file__), *sorted(kernels.glob("*.py"))]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def cache_folder(kernels: Path) -> Path:
    """Return where the machine code of the kernels in a folder is kept; CHARLM_CACHE_DIR moves it."""
    parent = os.environ.get("CHARLM_CACHE_DIR") or platformdirs.user_cache_dir("charlm", appauthor=False)
    return Path(parent) / f"kernels-{source_hash(kernels)}"

"""Compiles kernels (functions in files and folders named `…kernels`) with numba, and caches their machine code on disk.

numba would cache next to the source file, so a copy of the code (a served model, a temporary experiment) would compile
everything again. Here the cache is in the user's cache folder, under a hash of the kernel's file and of the project's
modules that it imports: copies of the same source share the cache, and editing any of these files invalidates it.
"""

import ast
import hashlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
import platformdirs
from numba.core.caching import _CacheLocator

# "contract" lets the compiler fuse a product and a sum, nothing else. The order of sums is unchanged, so the numbers of
# a text do not depend on the rest of its batch.
OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}

ROOT = Path(__file__).parents[2]


def kernel_helper(function: Callable[..., Any]) -> Any:
    """Compile a function that only kernels call; its machine code is cached as part of theirs."""
    return numba.njit(**OPTIONS)(function)


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function that Python calls; its machine code is cached on disk."""
    before = numba.config.CACHE_LOCATOR_CLASSES
    numba.config.CACHE_LOCATOR_CLASSES = f"{__name__}.{KernelCacheLocator.__name__}"
    try:
        return numba.njit(cache=True, **OPTIONS)(function)
    except RuntimeError:  # there is no folder to write to: compile in each process
        return numba.njit(**OPTIONS)(function)
    finally:
        numba.config.CACHE_LOCATOR_CLASSES = before


class KernelCacheLocator(_CacheLocator):
    """Tells numba where the machine code of a kernel is cached."""

    def __init__(self, py_func: Callable[..., Any]) -> None:
        # numba's warnings name these
        self._py_file, self._lineno = py_func.__code__.co_filename, py_func.__code__.co_firstlineno
        self._module = py_func.__module__.rpartition(".")[2]

    def get_cache_path(self) -> str:
        """Return the folder."""
        return str(cache_folder(Path(self._py_file)))

    def get_source_stamp(self) -> str:
        """Return the version of the source: numba discards what was cached with another one."""
        return source_hash(Path(self._py_file))

    def get_disambiguator(self) -> str:
        """Return what distinguishes this kernel from one of the same name in another module."""
        return self._module

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> "KernelCacheLocator | None":
        """Return the locator, None if the folder cannot be used."""
        del py_file
        folder = cache_folder(Path(py_func.__code__.co_filename))
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # The files in it are executed, so nobody else may be able to write to it.
            others = os.name == "posix" and (folder.stat().st_uid != os.getuid() or folder.stat().st_mode & 0o022)
        except OSError:
            return None
        return None if others or not os.access(folder, os.W_OK) else cls(py_func)


@cache
def source_hash(file: Path) -> str:
    """Return a hash of the source of the kernels in `file` and of the project's modules that it imports."""
    files = [file, Path(__file__)]
    for path in files:  # the list grows while it is read
        files += [found for found in _imports(path) if found not in files]
    digest = hashlib.sha256(numba.__version__.encode())
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _imports(file: Path) -> list[Path]:
    """Return the files of the project's modules that `file` imports."""
    names: list[str] = []
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    paths = (ROOT.joinpath(*name.split(".")).with_suffix(".py") for name in names if name.startswith("pipeline."))
    return [path for path in dict.fromkeys(paths) if path.is_file()]


def cache_folder(file: Path) -> Path:
    """Return where the machine code of the kernels in `file` is cached; CHARLM_CACHE_DIR moves it."""
    parent = os.environ.get("CHARLM_CACHE_DIR") or platformdirs.user_cache_dir("charlm", appauthor=False)
    return Path(parent) / f"kernels-{source_hash(file)}"

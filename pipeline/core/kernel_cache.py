"""Compiles kernels (functions in files and folders named `…kernels`) with numba, and caches their machine code on disk.

numba would cache next to the source file, so a copy of the code (a served model, a temporary experiment) would compile
everything again. Here the cache is in the user's cache folder, under a hash of the kernel's file and of the project's
modules that it imports: copies of the same source share the cache, and editing any of these files invalidates it.

What is in the cache is executed: numba's machine code, packed as a pickle. So the folder is used only if nobody else
can write to it, and every file begins with the SHA-256 of the rest: a damaged one would abort the process, so it is
compiled again. The hash is no protection from somebody who can write to the folder (SECURITY.md).
"""

import ast
import hashlib
import pickle
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator
from numba.core.runtime.nrt import rtsys
from numba.core.serialize import dumps

from pipeline.core.files import only_ours, read_cached, user_cache, write_cached

# "contract" lets the compiler fuse a product and a sum, nothing else. The order of sums is unchanged, so the numbers of
# a text do not depend on the rest of its batch.
OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}
# Python does not call helpers. To compile the code with which it could takes seconds where an argument is a tuple of
# many arrays, as an n-gram model is.
HELPER_OPTIONS: dict[str, Any] = OPTIONS | {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}

ROOT = Path(__file__).parents[2]


def kernel_helper(function: Callable[..., Any]) -> Any:
    """Compile a function that only kernels call; its machine code is cached as part of theirs."""
    return numba.njit(**HELPER_OPTIONS)(function)


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function that Python calls; its machine code is cached on disk."""
    compiled = numba.njit(**OPTIONS)(function)
    with suppress(RuntimeError):  # there is no folder to write to: compile in each process
        compiled._cache = KernelCache(function)  # noqa: SLF001  where numba's own enable_caching() puts its cache
    return compiled


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
        return cls(py_func) if only_ours(folder) else None


class _Locating(CompileResultCacheImpl):
    _locator_classes = (KernelCacheLocator,)


class KernelCache(FunctionCache):
    """numba's cache of one kernel, with its files checked before they are loaded."""

    _impl_class = _Locating

    def __init__(self, py_func: Callable[..., Any]) -> None:
        super().__init__(py_func)
        self._cache_file = CheckedFiles(Path(self.cache_path), self._impl.filename_base)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the machine code for the types `sig`; None, so that it is compiled, if it is not cached.

        numba's own method first loads everything that a compilation may need, in a third of a second and 8 MB. Machine
        code needs only numba's runtime, and a compilation loads the rest by itself.
        """
        rtsys.initialize(target_context)
        return self._load_overload(sig, target_context)


class CheckedFiles:
    """The files of one kernel in `folder`: one for each signature, its SHA-256 first.

    numba's own files have an index, which two processes that compile at the same time can get wrong.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name

    def load(self, key: Any) -> Any:
        """Return the machine code that was saved under `key`; None, so that it is compiled, without a whole file."""
        code = read_cached(self._path(key))
        return None if code is None else pickle.loads(code)  # noqa: S301

    def save(self, key: Any, data: Any) -> None:
        """Save machine code."""
        write_cached(self._path(key), dumps(data))

    def _path(self, key: Any) -> Path:
        return self.folder / f"{self.name}-{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}.kernel"


@cache
def source_hash(file: Path) -> str:
    """Return a hash of the source of the kernels in `file` and of the project's modules that it imports."""
    files = [file, Path(__file__)]
    for path in files:  # the list grows while it is read
        files += [found for found in _imports(path) if found not in files]
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@cache
def _imports(file: Path) -> list[Path]:
    """Return the files of the project's modules that `file` imports at its top: a kernel cannot import anything."""
    names: list[str] = []
    for node in ast.parse(file.read_bytes()).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    paths = (ROOT.joinpath(*name.split(".")).with_suffix(".py") for name in names if name.startswith("pipeline."))
    return [path for path in dict.fromkeys(paths) if path.is_file()]


def cache_folder(file: Path) -> Path:
    """Return where the machine code of the kernels in `file` is cached."""
    return user_cache() / f"kernels-{source_hash(file)}"

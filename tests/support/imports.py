"""Finds the code deps that each stage in dvc.yaml needs, from the import graph."""

import ast
import functools
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[2]
EXEMPT = "pipeline.tracking"


@functools.cache
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("pipeline", "stages", include_external_packages=True, cache_dir=None)


@functools.cache
def imported_by(module: str) -> frozenset[str]:
    """Return `module`, all modules of this project that it imports, directly or not, and their packages."""
    seen, todo = set(), [module]
    while todo:
        name = todo.pop()
        if name in seen or name.startswith(EXEMPT) or not name.startswith(("pipeline", "stages")):
            continue
        seen.add(name)
        todo += graph().find_modules_directly_imported_by(name)
        if "." in name:
            todo.append(name.rpartition(".")[0])
    return frozenset(seen)


def path_of(module: str) -> str:
    path = Path(*module.split("."))
    return str(path / "__init__.py" if (ROOT / path).is_dir() else path.with_suffix(".py"))


def code_paths(stage: str) -> set[str]:
    """Return the files of all modules that a stage imports, without tracking."""
    modules = {path_of(name) for name in imported_by(f"stages.{stage}")}
    return modules - {"pipeline/__init__.py", "stages/__init__.py"}  # docstrings only


def has_code(path: Path) -> bool:
    """Return whether a file has more than a docstring, as most `__init__.py` have not."""
    return len(ast.parse(path.read_text(encoding="utf-8")).body) > 1


def code_deps(stage: str) -> list[str]:
    """Return the exact code deps of a stage: a package's folder if it imports all of its modules, else the modules."""
    modules = code_paths(stage)
    deps: list[str] = []
    for package in sorted({str(Path(path).parent) for path in modules}):
        own = {path for path in modules if str(Path(path).parent) == package}
        everything = {str(path.relative_to(ROOT)) for path in (ROOT / package).glob("*.py")}
        if package not in {"pipeline", "stages"} and own == everything:
            deps.append(package)
        else:
            deps += sorted(path for path in own if has_code(ROOT / path))
    return [path for path in deps if not any(str(parent) in deps for parent in Path(path).parents)]

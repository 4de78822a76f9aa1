"""Versions of what matters for a result, of the environment that the page is written in. No names of hosts or users."""

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("charlm", "torch", "numpy", "mlflow", "dvc")


def versions() -> list[tuple[str, str]]:
    """Return names and versions; a package that is not installed is left out."""
    found = [("python", platform.python_version())]
    for name in PACKAGES:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return [*found, ("platform", f"{platform.system()} {platform.machine()}")]

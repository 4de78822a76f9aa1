"""An environment with only what serving needs: examples/deploy/requirements.txt and charlm's own code."""

import re
import sys
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ROOT / "examples/deploy/requirements.txt"


def with_dependencies(names):
    """The distributions of `names` and of all that they require, by name."""
    found, wanted = {}, list(names)
    while wanted:
        name = re.sub(r"[-_.]+", "-", wanted.pop()).lower()
        if name not in found:
            found[name] = distribution(name)
            parsed = [Requirement(line) for line in found[name].requires or ()]
            wanted += [one.name for one in parsed if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found


def bare_site(folder, *more):
    """Fill `folder` with links to the required packages and `more`, as pip would install them, and to charlm's code."""
    names = [line for line in REQUIREMENTS.read_text().splitlines() if line and not line.startswith("#")]
    for one in with_dependencies([*names, *more]).values():
        for top in {file.parts[0] for file in one.files or () if file.parts[0] not in {"..", "__pycache__"}}:
            if not (folder / top).exists():
                (folder / top).symlink_to(Path(one.locate_file(top)))
    for name in ("charlm", "pipeline"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def bare_python(site, code, *arguments):
    """The command that runs `code` with the packages in `site` alone."""
    # -I: neither this environment's packages nor the working folder; -S: no site-packages at all.
    return [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(site)!r}); {code}", *arguments]


def bare_charlm(site, *arguments):
    """The command `charlm ARGUMENTS` with the packages in `site` alone."""
    return bare_python(site, "from pipeline.cli.app import main; main()", *arguments)

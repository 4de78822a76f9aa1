"""`charlm serve` in an environment with only examples/deploy/requirements.txt: no torch, DVC or MLflow."""

import re
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import httpx
import pytest
from packaging.requirements import Requirement
from support.models import random_model
from support.projects import ROOT

REQUIREMENTS = ROOT / "examples/deploy/requirements.txt"
pytestmark = pytest.mark.end_to_end


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


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with links to the packages of the requirements, as pip would install them, and to charlm's code."""
    folder = tmp_path_factory.mktemp("site")
    names = [line for line in REQUIREMENTS.read_text().splitlines() if line and not line.startswith("#")]
    for one in with_dependencies(names).values():
        for top in {file.parts[0] for file in one.files or () if file.parts[0] not in {"..", "__pycache__"}}:
            if not (folder / top).exists():
                (folder / top).symlink_to(Path(one.locate_file(top)))
    for name in ("charlm", "pipeline"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def command(site, *arguments):
    # -I: neither this environment's packages nor the working folder; -S: no site-packages at all.
    code = f"import sys; sys.path.insert(0, {str(site)!r}); from pipeline.cli.app import main; main()"
    return [sys.executable, "-I", "-S", "-c", code, *arguments]


def test_nothing_of_the_pipeline_is_there(site):
    for name in ("torch", "dvc", "mlflow", "pandas", "pyarrow", "great_expectations"):
        assert not (site / name).exists()


def test_a_model_in_a_folder_is_served(site, tmp_path):
    random_model().save(tmp_path / "model")
    process = subprocess.Popen(
        command(site, "serve", "--model", str(tmp_path / "model"), "--port", "0"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        for line in process.stdout:
            if found := re.search(r"at (http://\S+)/", line):
                break
        address = found[1]
        request = {"prompt": "a", "max_tokens": 5, "seed": 1}
        answer = httpx.post(f"{address}/v1/completions", json=request, timeout=120).json()
        assert len(answer["choices"][0]["text"]) == 5
    finally:
        process.terminate()
        process.wait(timeout=60)
        process.stdout.close()


def test_the_registry_needs_mlflow_and_says_what_to_install(site, tmp_path):
    done = subprocess.run(
        command(site, "serve", "--model", "models:/charlm@champion", "--port", "0"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    # Whichever of the registry's packages is imported first.
    assert re.fullmatch(r"error: (filelock|mlflow) is not installed; `pip install charlm` installs it\n", done.stderr)

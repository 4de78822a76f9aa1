"""`charlm serve` in an environment with only examples/deploy/requirements.txt: no torch, DVC or MLflow."""

import re
import subprocess

import httpx
import pytest
from support.bare import bare_charlm, bare_site
from support.models import random_model

pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return bare_site(tmp_path_factory.mktemp("site"))


def test_nothing_of_the_pipeline_is_there(site):
    for name in ("torch", "dvc", "mlflow", "pandas", "pyarrow", "great_expectations"):
        assert not (site / name).exists()


def test_a_model_in_a_folder_is_served(site, tmp_path):
    random_model().save(tmp_path / "model")
    process = subprocess.Popen(
        bare_charlm(site, "serve", "--model", str(tmp_path / "model"), "--port", "0"),
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
        bare_charlm(site, "serve", "--model", "models:/charlm@champion", "--port", "0"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    # Whichever of the registry's packages is imported first.
    assert re.fullmatch(r"error: (filelock|mlflow) is not installed; `pip install charlm` installs it\n", done.stderr)

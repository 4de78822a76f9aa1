"""A finished tiny project, built once for a file of tests, and the seed of all random choices.

CHARLM_FAULT_SEED sets the seed, which is printed; CHARLM_FAULT_CASES the number of cases for each reader, or `all`.
"""

import os
import random

import pytest
from ruamel.yaml import YAML
from support.fork_server import ForkServer
from support.projects import ROOT, STAGES, TEXT, TINY

# With documents in buckets, all kinds of files are there; with a test text, all of `evaluate` runs.
DOCUMENTS = {"samples": "documents", "buckets": [20, 40], "by": "document", "train_fraction": 0.6, "test_fraction": 0.1}


@pytest.fixture(scope="module")
def seed(request):
    found = int(os.environ.get("CHARLM_FAULT_SEED") or random.SystemRandom().randrange(10**6))
    print(f"\nCHARLM_FAULT_SEED={found}")
    return found


@pytest.fixture(scope="module")
def server():
    with ForkServer(*(f"stages.{stage}" for stage in STAGES), "pipeline.cli.app", "support.reads", "mlflow") as running:
        yield running


def made(folder, server, **groups):
    """Run all stages in an empty folder, and return it."""
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    for name, values in (*TINY.items(), *groups.items()):
        params[name].update(values)
    (folder / "texts").mkdir()
    for number, paragraph in enumerate(TEXT.split("\n\n")):
        (folder / f"texts/{number:03d}.txt").write_text(f"{number}. {paragraph}")
    (folder / "text.txt").write_text(TEXT)  # what `charlm score` reads
    params["data"]["source"] = "texts"
    YAML(typ="safe").dump(params, folder / "params.yaml")
    for stage in STAGES:
        done = server.stage(folder, stage)
        assert done.code == 0, (stage, done.error)
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory, server):
    return made(tmp_path_factory.mktemp("finished"), server, split=DOCUMENTS, train={"threads": 1})

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from support.browser import browser  # noqa: F401  a fixture of the tests of pages
from support.tables import TEXT, tables

from pipeline.dataset.build_splits import build_splits
from pipeline.params.text import SplitParams

# The first call of a kernel compiles it.
settings.register_profile("charlm", deadline=None)
settings.load_profile("charlm")

# Workers of pytest-xdist share the cores: PyTorch's threads would only wait for each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DVC_NO_ANALYTICS"] = "true"
for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "DVC_ROOT", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV"):
    os.environ.pop(variable, None)


# These files take minutes each. They start first: one that starts last would run alone, with one core idle.
LONGEST = (
    "test_documented_commands.py",
    "test_tour.py",
    "test_sweep.py",
    "test_workers.py",
    "test_start_from.py",
    "test_bad_input.py",
    "test_end_to_end.py",
    "test_kills.py",
    "test_damage.py",
    "test_disk.py",
    "test_lineage.py",
    "test_server.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONGEST)))


@pytest.fixture(scope="module", autouse=True)
def _environment() -> Iterator[None]:
    """MLflow writes its tracking address into the environment: it must not reach another module's processes."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def text() -> str:
    return TEXT


@pytest.fixture
def split_folder(tmp_path: Path, text: str) -> Path:
    """A folder as the split stage leaves it, of a small text."""
    folder = tmp_path / "split"
    folder.mkdir()
    build_splits(tables(text), folder, SplitParams(buckets=(20,)))
    return folder

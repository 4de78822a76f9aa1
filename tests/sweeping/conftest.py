import shutil
from pathlib import Path

import pytest
from optuna.storages import RDBStorage

from pipeline.sweeping import sweep

SWEEP = """# Learning rates
trials: 6
set:
  train: {epochs: 1}
search:
  train.optimizer.lr: {low: 0.001, high: 0.03, log: true}
  model.num_hidden: {low: 128, high: 448, step: 32}
"""


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """Optuna's tables, which take a second to create."""
    path = tmp_path_factory.mktemp("optuna") / "optuna.db"
    RDBStorage(f"sqlite:///{path}").engine.dispose()
    return path


@pytest.fixture
def folder(tmp_path, empty_database, monkeypatch):
    """A project with params and a sweep, whose data is prepared, and whose tracking server is unreachable."""
    shutil.copy(Path(__file__).parents[2] / "params.yaml", tmp_path)
    (tmp_path / ".charlm/sweeps").mkdir(parents=True)
    shutil.copy(empty_database, tmp_path / ".charlm/sweeps")
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sweep, "prepare_data", lambda: ["data"])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return tmp_path

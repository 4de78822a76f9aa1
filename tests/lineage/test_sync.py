"""When `charlm sync` takes a run for the record of a result that is in DVC."""

from types import SimpleNamespace

import pytest

from pipeline.core.files import write_json
from pipeline.evaluation.measurement import measurement
from pipeline.lineage.sync import _has_result_of
from pipeline.tracking.execution import Execution
from pipeline.tracking.records import read_record


def execution(folder, *, perplexity=3.5, window=100, hidden=8, text="a" * 64):
    folder.mkdir()
    (folder / "params.yaml").write_text(f"model:\n  num_hidden: {hidden}\n")
    record = measurement(eval_sha256=text, window=window, unknown_chars=0)
    write_json(folder / "metrics/evaluate.json", {"perplexity": perplexity, "measurement": record})
    write_json(folder / "metrics/split.json", {"eval_sha256": text})
    return Execution(folder=folder, name="a", tags={})


def run_of(one):
    """The MLflow run that has all of an execution, as `run.data` shows it."""
    evaluate = read_record("evaluate", one.folder)
    tags = read_record("split", one.folder).tags | evaluate.tags | {"mlflow.runName": "a"}
    data = SimpleNamespace(params=one.params(), metrics=evaluate.metrics | {"train/seconds": 1.0}, tags=tags)
    return SimpleNamespace(data=data)


def test_the_run_of_a_result_is_found(tmp_path):
    assert _has_result_of(run_of(execution(tmp_path / "a")), execution(tmp_path / "b"))


@pytest.mark.parametrize("change", [{"perplexity": 3.4}, {"window": 400}, {"hidden": 9}, {"text": "b" * 64}])
def test_a_result_that_differs_is_another(tmp_path, change):
    # The same figure of another window or text is another result.
    assert not _has_result_of(run_of(execution(tmp_path / "a")), execution(tmp_path / "b", **change))

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.core.files import write_json
from pipeline.tracking.records import STAGES, read_record, stages_before

ROOT = Path(__file__).parents[2]
DVC = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]


def names(entry):
    return list(entry) if isinstance(entry, dict) else [entry]


def outputs(stage):
    return {
        name for kind in ("outs", "metrics", "plots") for entry in DVC[stage].get(kind, []) for name in names(entry)
    }


def test_the_stages_are_those_of_dvc_yaml_that_leave_results():
    assert list(STAGES) == [stage for stage in DVC if outputs(stage)]
    assert set(DVC) - set(STAGES) == {"summary"}


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_stage_publishes_is_what_it_writes(stage):
    files = STAGES[stage]
    made = set().union(*(outputs(name) for name in [*stages_before(stage), stage]))
    made |= {"data/split/dictionary.json", "reports/data_docs", "params.yaml", "dvc.yaml", "dvc.lock"}
    assert {*files.artifacts, *filter(None, [files.metrics, files.curve])} <= made


@pytest.mark.parametrize("stage", STAGES)
def test_the_order_is_that_of_dvc_yaml(stage):
    makers = {name: other for other in DVC for name in outputs(other)}
    needed = {makers[dep] for dep in DVC[stage].get("deps", []) if dep in makers}
    assert needed <= set(stages_before(stage))


def test_a_record_is_read_from_files(tmp_path):
    write_json(
        tmp_path / "metrics/train.json", {"seconds": 3, "device": "cpu", "threads": 2, "deep": {"x": 0.5}, "none": None}
    )
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots/train.csv").write_text("step,epoch,seconds,eval_perplexity\n10,0.5,1.5,9.0\n20,1,3.0,\n")
    record = read_record("train", tmp_path)
    assert record.metrics == {"train/seconds": 3.0, "train/deep.x": 0.5}
    assert record.tags == {"train.device": "cpu", "train.threads": "2"}
    assert record.curve == [
        (10, 1.5, {"train/epoch": 0.5, "train/eval_perplexity": 9.0}),
        (20, 3.0, {"train/epoch": 1.0}),
    ]
    assert record.artifacts == [tmp_path / "plots/train.csv"]


def test_facts_of_the_text_are_tags(tmp_path):
    write_json(tmp_path / "metrics/split.json", {"characters": 1234, "padding": 0.25, "train_sha256": "ab"})
    record = read_record("split", tmp_path)
    assert record.metrics == {}
    assert record.tags == {"split.characters": "1234", "split.padding": "0.25", "split.train_sha256": "ab"}
    write_json(
        tmp_path / "metrics/evaluate.json", {"perplexity": 3.5, "num_chars": 9, "buckets": {"32": {"num_chars": 9}}}
    )
    record = read_record("evaluate", tmp_path)
    assert record.metrics == {"evaluate/perplexity": 3.5}
    assert record.tags == {"evaluate.num_chars": "9", "evaluate.buckets.32.num_chars": "9"}


def test_a_stage_that_never_ran_has_an_empty_record(tmp_path):
    record = read_record("evaluate", tmp_path)
    assert not (record.metrics or record.tags or record.curve or record.artifacts)

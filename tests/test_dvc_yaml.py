from pathlib import Path

import pytest
from ruamel.yaml import YAML
from support.imports import ROOT, code_deps

DVC = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())
STAGES = DVC["stages"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stages_code_deps_are_exactly_what_it_imports(stage):
    listed = [dep for dep in STAGES[stage]["deps"] if dep.startswith(("pipeline", "stages"))]
    assert sorted(listed) == sorted(code_deps(stage))


def test_the_fold_is_exact():
    """A change of what a stage does not import never runs it again."""
    train = code_deps("train")
    assert "pipeline/training" in train
    assert "pipeline/params/generation.py" not in train
    assert not [dep for dep in train if "serving" in dep or "tracking" in dep or "generation" in dep]


@pytest.mark.parametrize("stage", STAGES)
def test_the_params_are_groups_that_exist_and_that_the_script_reads(stage):
    script = (ROOT / f"stages/{stage}.py").read_text()
    read = {part.split('"')[1] for part in script.split("read_group(")[1:]}
    listed = {param.partition(".")[0] for param in STAGES[stage].get("params", [])}
    assert listed == read


@pytest.mark.parametrize("stage", STAGES)
def test_metrics_are_kept_by_git_and_outputs_by_dvc(stage):
    for kind in ("outs", "metrics", "plots"):
        for entry in STAGES[stage].get(kind, []):
            settings = next(iter(entry.values())) if isinstance(entry, dict) else {}
            # DVC's run cache leaves out stages with outs (but not metrics and plots) that are not cached.
            assert settings.get("cache", True) == (kind == "outs")
            # What persists is never restored from the run cache: right only for the stage that always runs.
            assert settings.get("persist", False) == (stage == "source")


def test_every_script_is_a_stage():
    assert {path.stem for path in Path(ROOT / "stages").glob("[a-z]*.py")} == set(STAGES)

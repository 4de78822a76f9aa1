from pathlib import Path

import pytest
from ruamel.yaml import YAML
from support.imports import ROOT, code_deps, code_paths, has_code

from pipeline.core import files as layout

DVC = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())
STAGES = DVC["stages"]


# The stages that take longest run again only for modules that they import; the others list whole packages.
EXACT = {"train", "evaluate"}


def listed_code(stage):
    return [dep for dep in STAGES[stage]["deps"] if dep.startswith(("pipeline", "stages"))]


def covers(dep, path):
    return Path(dep) in [Path(path), *Path(path).parents]


@pytest.mark.parametrize("stage", sorted(STAGES.keys() - EXACT))
def test_code_deps_cover_what_a_stage_imports(stage):
    listed, imported = listed_code(stage), {path for path in code_paths(stage) if has_code(ROOT / path)}
    assert [path for path in imported if not any(covers(dep, path) for dep in listed)] == []
    assert [dep for dep in listed if not (ROOT / dep).exists()] == []
    assert [dep for dep in listed if not any(covers(dep, path) for path in imported)] == []


@pytest.mark.parametrize("stage", sorted(EXACT))
def test_code_deps_of_the_longest_stages_are_exactly_what_they_import(stage):
    assert sorted(listed_code(stage)) == sorted(code_deps(stage))


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


def test_every_path_of_the_layout_is_declared_by_a_stage():
    """pipeline/core/files.py and dvc.yaml name the same files."""
    declared = set()
    for stage in STAGES.values():
        for entry in [*stage.get("outs", []), *stage.get("metrics", []), *stage.get("plots", [])]:
            declared.add(Path(entry if isinstance(entry, str) else next(iter(entry))))
    paths = {path for path in vars(layout).values() if isinstance(path, Path)}
    # Data Docs are no output, since their pages have random names; the others are within an output, or contain some.
    undeclared = {layout.DATA_DOCS, layout.DICTIONARY, layout.PLOTS}
    assert paths - declared == undeclared
    assert layout.SPLITS in layout.DICTIONARY.parents

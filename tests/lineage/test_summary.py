import json
import sqlite3
import subprocess

import pytest
from rich.console import Console

from pipeline.core.errors import UserError
from pipeline.core.files import write_json
from pipeline.lineage.summary import summary
from pipeline.tracking.project import git_state

WEIGHTS = "1" * 64
FIGURES = {"perplexity": 3.5821, "bits_per_char": 1.84, "num_chars": 116138}


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("DVC_ROOT", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)
    write_json(tmp_path / "metrics/evaluate.json", FIGURES)
    train = {"seconds": 38.04, "parameters": 728467, "precision": "bfloat16", "device": "cpu"}
    write_json(tmp_path / "metrics/train.json", train)
    write_json(tmp_path / "metrics/validate.json", {"overlap": {"eval": 0.03703}})
    samples = [
        {"mode": "greedy", "prompt": "The", "completion": " the the", "temperature": 0},
        {"mode": "sampled", "prompt": "The", "completion": " one\ntwo\nthree\nfour\nfive", "temperature": 0.8},
    ]
    write_json(tmp_path / "samples/samples.json", samples)
    write_json(
        tmp_path / "models/registration.json",
        {"model_name": "charlm", "perplexity": 3.5, "measurement_id": "one"} | {"weights_sha256": WEIGHTS},
    )
    (tmp_path / "params.yaml").write_text("# mine\nmodel:\n  num_hidden: 384\n  cell: lstm\n")
    git("init", "-q")
    git("add", "params.yaml")
    git("commit", "-q", "-m", "start")
    git_state.cache_clear()
    return tmp_path


def git(*arguments):
    subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@localhost", *arguments], check=True)


def shown(project, **options):
    console = Console(width=150, highlight=False)
    with console.capture() as capture:
        console.print(summary(project, **options), crop=False)
    return capture.get()


def register(folder, alias, tags):
    with sqlite3.connect(folder / "mlflow.db") as database:
        database.execute("CREATE TABLE registered_model_aliases (name, version, alias)")
        database.execute("CREATE TABLE model_version_tags (name, version, key, value)")
        database.execute("INSERT INTO registered_model_aliases VALUES ('charlm', 3, ?)", (alias,))
        for key, value in ({"weights_sha256": WEIGHTS, "perplexity": "3.5", "measurement_id": "one"} | tags).items():
            database.execute("INSERT INTO model_version_tags VALUES ('charlm', 3, ?, ?)", (key, value))


def test_perplexity_is_shown_with_its_baseline(project):
    assert "3.582\n" in "\n".join(line.rstrip() for line in shown(project).splitlines())
    figures = FIGURES | {"baseline_perplexity": 3.394, "baseline": "Kneser-Ney order 6"}
    write_json(project / "metrics/evaluate.json", figures)
    assert "3.582  baseline 3.394 (Kneser-Ney order 6)" in shown(project)
    assert "network alone" not in shown(project)


def test_what_the_network_has_without_its_ngram_model_is_shown(project):
    write_json(project / "metrics/evaluate.json", FIGURES | {"network_perplexity": 3.71})
    assert "network alone             3.710" in shown(project)


def test_params_that_differ_have_both_values_and_an_undo_command(project):
    assert "differs from the commit   nothing" in shown(project)
    (project / "params.yaml").write_text("model:\n  num_hidden: 128\n  cell: lstm\n")
    lines = shown(project)
    assert "model.num_hidden 384 → 128" in lines
    assert "undo: git checkout params.yaml" in lines
    assert "cell" not in lines


def test_a_temporary_copy_says_that_the_workspace_is_unchanged(project, monkeypatch, tmp_path_factory):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path_factory.mktemp("root")))
    (project / "params.yaml").write_text("model:\n  num_hidden: 128\n  cell: lstm\n")
    assert "params.yaml in the workspace is unchanged" in shown(project)
    assert "git checkout" not in shown(project)


def test_the_models_alias_comes_with_its_reason(project):
    assert "charlm: not in the registry yet; `charlm sync` registers it" in shown(project)
    register(project, "challenger", {"gate": "challenger: not better: perplexity 4 against 3 of version 1"})
    assert "charlm version 3, challenger: not better: perplexity 4 against 3 of version 1" in shown(project)


def test_the_serve_command_has_this_models_address(project):
    assert "mlflow models serve" not in shown(project)
    register(project, "challenger", {})
    assert "mlflow models serve -m models:/charlm/3 --env-manager local" in shown(project)


def test_the_champion_is_served_by_its_alias(project):
    register(project, "champion", {})
    assert "mlflow models serve -m models:/charlm@champion" in shown(project)


def test_the_overlap_is_a_share_of_the_eval_text(project):
    assert "3.70% of the eval text also occurs in the training text" in shown(project)


@pytest.mark.parametrize(
    ("prompt", "quoted"), [("The sea", '"The sea"'), ('a "b" $c', "'a \"b\" $c'"), ("it's", '"it\'s"')]
)
def test_the_prompt_can_be_copied_to_a_shell(project, prompt, quoted):
    sample = {"mode": "sampled", "prompt": prompt, "completion": "x", "temperature": 0.8}
    write_json(project / "samples/samples.json", [sample])
    assert f"charlm generate {quoted}\n" in "\n".join(line.rstrip() for line in shown(project).splitlines()) + "\n"


def test_a_champion_that_lost_its_alias_is_not_called_one(project):
    register(project, "", {"gate": "champion: there is no champion yet"})
    lines = shown(project)
    assert "charlm version 3" in lines
    assert "no champion yet" not in lines


def test_a_registry_on_a_server_is_not_read(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:1")
    assert "charlm; `charlm models` shows its version on the server" in shown(project)


def test_the_summary_is_short(project):
    (project / "params.yaml").write_text(json.dumps({"model": {f"key_{n}": n for n in range(30)}}))
    lines = shown(project, runs_page="http://localhost:5000/#/x").splitlines()
    assert len(lines) < 40
    assert "three" in "".join(lines)
    assert "five" not in "".join(lines)
    assert any("more params" in line for line in lines)
    commands = lines[next(at for at, line in enumerate(lines) if line.startswith("what next")) + 1 :]
    assert len(commands) <= 7
    assert any("http://localhost:5000/#/x" in line for line in commands)


def test_without_a_run_there_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"evaluate.json: not there yet; run `dvc repro` first"):
        summary(tmp_path)

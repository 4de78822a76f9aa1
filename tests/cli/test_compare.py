"""`charlm compare` in a small Git repository: what it reads is in commits and in DVC's cache; no dvc runs."""

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from support.fork_server import commands
from support.projects import ROOT

from pipeline.evaluation.measurement import measurement, measurement_id

PARAMS = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
EVALUATE = {"outs": [{"path": "plots/position.csv", "md5": "0"}]}
RECORD_ID = measurement_id(measurement(eval_sha256="a" * 64, window=100, unknown_chars=0))
WEIGHTS = {"start": "1" * 64, "wider": "2" * 64}


class Repository:
    def __init__(self, folder):
        self.folder = folder
        (folder / ".dvc").mkdir()
        self.git("init", "-q", "-b", "main")
        self.results("start", 3.5, {})
        self.head = self.commit("start")

    def git(self, *arguments):
        command = ["git", "-c", "user.name=t", "-c", "user.email=t@localhost", *arguments]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def commit(self, message):
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD")

    def results(self, name, perplexity, changes, *, text="a" * 64):
        """Write what a run leaves: figures, params, and in DVC's cache the registration."""
        params = json.loads(json.dumps(PARAMS))
        for key, value in changes.items():
            *groups, last = key.split(".")
            at = params
            for group in groups:
                at = at[group]
            at[last] = value
        YAML(typ="safe").dump(params, self.folder / "params.yaml")
        record = measurement(eval_sha256=text, window=100, unknown_chars=0)
        figures = {"perplexity": perplexity, "bits_per_char": 1.8, "eval_sha256": text, "measurement": record}
        figures["baseline_perplexity"] = 3.394
        self.write("metrics/evaluate.json", figures)
        self.write("metrics/train.json", {"seconds": 38.04})
        registration = json.dumps(
            {"perplexity": perplexity, "measurement": record, "weights_sha256": WEIGHTS.get(name, name)}
        )
        md5 = hashlib.md5(registration.encode(), usedforsecurity=False).hexdigest()
        self.write(f".dvc/cache/files/md5/{md5[:2]}/{md5[2:]}", registration)
        lock = {
            "stages": {"register": {"outs": [{"path": "models/registration.json", "md5": md5}]}, "evaluate": EVALUATE}
        }
        YAML(typ="safe").dump(lock, self.folder / "dvc.lock")
        (self.folder / ".gitignore").write_text("/.dvc/cache\n/mlflow.db\n/models\n")

    def write(self, name, content):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))

    def experiment(self, name, perplexity, changes, *, baseline=None, **options):
        self.results(name, perplexity, changes, **options)
        self.git("add", "-A")
        baseline = baseline or self.head
        commit = self.git("commit-tree", "-p", baseline, "-m", name, self.git("write-tree"))
        self.git("update-ref", f"refs/exps/{baseline[:2]}/{baseline[2:]}/{name}", commit)
        self.git("reset", "-q", "--hard", "HEAD")

    def register(self, name, alias):
        with sqlite3.connect(self.folder / "mlflow.db") as database:
            database.execute("CREATE TABLE registered_model_aliases (name, version, alias)")
            database.execute("CREATE TABLE model_version_tags (name, version, key, value)")
            database.execute("INSERT INTO registered_model_aliases VALUES ('charlm', 1, ?)", (alias,))
            tags = {
                "weights_sha256": WEIGHTS[name],
                "perplexity": "3.2",
                "measurement_id": RECORD_ID,
            }
            for tag in tags.items():
                database.execute("INSERT INTO model_version_tags VALUES ('charlm', 1, ?, ?)", tag)

    def charlm(self, *arguments, expect=0, **variables):
        done = subprocess.run(
            [commands() / "charlm", "compare", *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            env=environment() | variables,
        )
        assert done.returncode == expect, done.stderr
        return done


def environment():
    return os.environ | {"PYTHONPATH": str(ROOT), "GIT_CONFIG_GLOBAL": "/dev/null"}


@pytest.fixture
def repository(tmp_path):
    repository = Repository(tmp_path)
    repository.experiment("wider", 3.2, {"model.num_hidden": 512})
    repository.experiment("slower", 3.9, {"train.optimizer.lr": 0.001})
    return repository


def names(output):
    return [line.split()[0] for line in output.splitlines()]


def test_the_best_comes_first_with_only_the_params_that_differ_and_the_champion(repository):
    repository.register("wider", "champion")
    done = repository.charlm()
    lines = done.stdout.splitlines()
    assert lines[0].split() == [
        "name",
        "perplexity",
        "baseline",
        "bits",
        "seconds",
        "model",
        "num_hidden",
        "lr",
    ]
    assert lines[1].split() == ["wider", "3.200", "3.394", "1.800", "38.0", "champion", "512", "0.01"]
    assert names(done.stdout)[1:] == ["wider", repository.head[:7], "slower"]
    assert "(main) (here)" in lines[2]
    assert len(lines) == 4
    assert done.stderr == ""


def test_it_loads_neither_mlflow_nor_torch(repository):
    code = (
        "import sys; from pipeline.cli.app import app; app(['compare'], standalone_mode=False); "
        "print([name for name in ('mlflow', 'torch', 'dvc.repo') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repository.folder, capture_output=True, text=True, env=environment()
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


@pytest.mark.parametrize("columns", ["40", "60", "80", "300"])
def test_a_pipe_gets_whole_lines_of_at_most_100_columns(repository, columns):
    changes = {f"train.{key}": 5 for key in ("batch_size", "seed", "threads", "patience")}
    changes |= {f"generate.{key}": 7 for key in ("num_chars", "num_samples", "top_k", "seed", "repetition_window")}
    repository.experiment("an-experiment-with-a-name-that-is-far-too-long-for-a-column", 3.0, changes)
    done = repository.charlm(COLUMNS=columns)
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 100
    assert "…" not in lines[0]
    assert "an-experiment-with-a-name-that-is-far-too-long-for-a-column".startswith(lines[1].split()[0])
    assert "num_hidden" in lines[0]  # what matters most stays
    remarks = " ".join(lines)
    assert "more params differ: " in remarks
    assert "; --json has them all" in remarks


def test_other_eval_texts_are_never_ranked_together(repository):
    repository.experiment("book", 2.0, {"data.source": "texts/book.txt"}, text="b" * 64)
    done = repository.charlm()
    lines = done.stdout.splitlines()
    titles = [line.partition(",")[0] for line in lines if line.startswith("eval text")]
    assert titles == ["eval text aaaaaaaa of sotu", "eval text bbbbbbbb of book.txt"]
    assert names(done.stdout).index("book") > names(done.stdout).index("slower")
    assert lines[-1].startswith("figures of different eval texts or windows are not comparable")
    ranks = {row["name"]: row["rank"] for row in json.loads(repository.charlm("--json").stdout)["models"]}
    assert (ranks["wider"], ranks["slower"], ranks["book"]) == (1, 3, 1)


def test_experiments_on_other_commits_are_counted_and_can_be_seen(repository):
    repository.results("later", 3.4, {"train.epochs": 9})
    repository.commit("later")
    lines = repository.charlm().stdout.splitlines()
    assert lines[-2].startswith("2 experiments on other commits are not shown: charlm compare --all")
    assert {"wider", "slower"} <= set(names(repository.charlm("--all").stdout))
    assert names(repository.charlm("slower", "wider").stdout) == ["name", "wider", "slower"]
    assert names(repository.charlm("HEAD~1", "slower", "workspace").stdout)[1:] == ["workspace", "HEAD~1", "slower"]


def test_params_edited_since_the_run_leave_the_workspace_out(repository):
    path = Path(repository.folder / "params.yaml")
    lock = YAML(typ="safe").load((repository.folder / "dvc.lock").read_text())
    lock["stages"]["evaluate"] = EVALUATE | {"params": {"params.yaml": {"evaluate.window": 7}}}
    YAML(typ="safe").dump(lock, repository.folder / "dvc.lock")
    done = repository.charlm()
    assert path.exists()
    assert done.stderr.startswith("left out: the workspace; its params or data were edited since its last run")
    assert "workspace" not in names(done.stdout)


def test_what_cannot_be_compared_is_one_line(repository, tmp_path_factory):
    assert repository.charlm("gone", expect=2).stderr == (
        "error: gone: no such experiment or commit; `dvc exp list --all` names the experiments\n"
    )
    assert repository.charlm("wider", "--all", expect=2).stderr.startswith("error: --all: found with names")
    empty = tmp_path_factory.mktemp("empty")
    done = subprocess.run(
        [commands() / "charlm", "compare"],
        cwd=empty,
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert done.returncode == 2
    assert done.stderr == (
        "error: nothing to compare: no figures in the workspace, HEAD or an experiment; run `dvc repro` first\n"
    )


def test_a_damaged_registry_is_named_and_the_figures_are_shown(repository):
    repository.register("wider", "champion")
    repository.write("mlflow.db", "not a database")
    done = repository.charlm()
    assert done.stderr.startswith("warning: the models' aliases are not shown: mlflow.db: not an SQLite database")
    assert done.stderr.count("\n") == 1
    assert names(done.stdout)[1:] == ["wider", repository.head[:7], "slower"]
    assert "champion" not in done.stdout

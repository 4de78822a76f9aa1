"""A project for tests: a copy of the working tree with tiny params. DVC runs in it, and stages and charlm in forks."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from mlflow import MlflowClient
from ruamel.yaml import YAML

from support.fork_server import commands

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "LICENSE").read_text() * 8
STAGES = list(YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"])
# The stages that also run if nothing changed.
ALWAYS = ["source", "summary"]
TINY = {
    "data": {"source": "text.txt"},
    "split": {"buckets": [20]},
    "validate": {"data_docs": False, "max_overlap": 1.0, "warn_overlap": 1.0},
    "model": {"num_hidden": 8, "num_embed": 4},
    "train": {"epochs": 1, "batch_size": 8},
    "evaluate": {"window": 20},
    "generate": {"num_chars": 20},
    "register": {"model_name": "charlm", "max_perplexity": 1000.0, "beat_baseline": False},
}


class Project:
    """A committed copy of the working tree, with a small text and a small network."""

    def __init__(self, folder):
        self.folder = folder
        tracked = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        for name in tracked:
            if name.split("/")[0] not in {"metrics", "plots", "dvc.lock"} and (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, folder / name)
        (folder / "text.txt").write_text(TEXT)
        params = YAML(typ="safe").load((folder / "params.yaml").read_text())
        for group, values in TINY.items():
            params[group].update(values)
        YAML(typ="safe").dump(params, folder / "params.yaml")
        self.git("init", "-q", "-b", "main")
        self.commit("start")

    def environment(self):
        places = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        kept = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_TRACKING")}
        return kept | {"PATH": places, "PYTHONPATH": str(self.folder), "GIT_CONFIG_GLOBAL": os.devnull}

    def run(self, *command, expect=0, **variables):
        environment = self.environment()
        environment |= {"PATH": f"{commands()}{os.pathsep}{environment['PATH']}"} | variables
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)
        assert done.returncode == expect, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout + done.stderr

    def git(self, *arguments):
        return self.run("git", "-c", "user.name=t", "-c", "user.email=t@localhost", *arguments)

    def commit(self, message):
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)

    def ran(self, output):
        return [stage for stage in STAGES if f"Running stage '{stage}'" in output]

    def runs(self):
        store = f"sqlite:///{self.folder}/mlflow.db"
        client = MlflowClient(store, store)
        found = client.search_runs([client.get_experiment_by_name("charlm").experiment_id])
        return {run.info.run_name.split(" ")[0]: run for run in found}, len(found)

    def reset(self):
        """Restore the commit's params and outputs, which `dvc exp run` replaces in the workspace."""
        self.git("checkout", "-q", "--", ".")
        self.run("dvc", "checkout", "-q")

    def weights(self):
        return (self.folder / "models/charlm/weights.safetensors").read_bytes()

"""From a registered version back to all that made it."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from pipeline.errors import UserError
from pipeline.files import read_json
from pipeline.params.reader import parse_group, read_yaml
from pipeline.params.register import RegisterParams
from pipeline.tracking.execution import environment
from pipeline.tracking.git import git
from pipeline.tracking.publish import TRACE
from pipeline.tracking.registry import find_version
from pipeline.tracking.snapshots import experiments
from pipeline.tracking.store import open_store

KEPT_HERE = (f"{TRACE}/changes.patch", f"{TRACE}/environment.json")
KEPT_WITH_MODEL = ("register/params.yaml", "register/dvc.lock")
# The stages whose results make the weights; a rebuild runs these and no other.
REBUILT = ("source", "ingest", "clean", "split", "validate", "train")
# What besides code, params and data can change a sum.
TELLING_PACKAGES = ("torch", "numpy")


@dataclass(frozen=True)
class Trace:
    """What made a version: `patch` leads from `commit` to the code and params that ran, `lock` is dvc.lock then."""

    name: str
    version: ModelVersion
    run: Run
    commit: str
    patch: bytes
    params: dict[str, Any]
    lock: dict[str, Any]
    environment: dict[str, Any]

    @property
    def experiment(self) -> str:
        """Return the DVC experiment's name, "" for a plain repro."""
        return str(self.run.data.tags.get("dvc.experiment", ""))

    def subject(self) -> str:
        """Return the commit's first line, or that this repository does not have it."""
        return git("log", "-1", "--format=%s", self.commit).strip() or "not in this repository"

    def still_in_dvc(self) -> bool:
        """Return whether DVC still holds the experiment."""
        return any(one.name == self.experiment for one in experiments())

    def hashes(self) -> dict[str, str]:
        """Return the MD5 of each output that the weights rest on, as dvc.lock had it."""
        stages = self.lock.get("stages", {})
        return {
            out["path"]: out["md5"]
            for name in REBUILT
            for out in stages.get(name, {}).get("outs", [])
            if "md5" in out and not out["path"].startswith(("metrics", "plots", "reports"))
        }

    def differences_here(self) -> list[str]:
        """Return what of the environment is another here, so that the bytes may differ."""
        here, there = environment(), self.environment
        found = [
            f"{name}: {there.get(name)} there, {here[name]} here"
            for name in ("python", "system", "processor")
            if there.get(name) not in {None, here[name]}
        ]
        return found + [
            f"{name}: {there['packages'].get(name)} there, {here['packages'].get(name)} here"
            for name in TELLING_PACKAGES
            if there.get("packages", {}).get(name) != here["packages"].get(name)
        ]

    def command(self, name: str) -> str:
        """Return the charlm command `name` for this version."""
        params = parse_group("register", self.params["register"], RegisterParams)
        is_default = self.name == params.name_for(str(self.params["data"]["source"]))
        model = "" if is_default else f" --model {self.name}"
        return f"charlm {name} {self.version.version}{model}"

    def commands(self) -> list[str]:
        """Return the commands, for the project's root, that rebuild the model beside it."""
        place = f"../{self.name}-{self.version.version}"
        lines = [f"git clone --shared . {place} && git -C {place} checkout -q {self.commit}"]
        if self.patch:
            lines.append(f"{self.command('trace')} --patch | git -C {place} apply -")
        return [*lines, f"cd {place} && make install && .venv/bin/dvc repro -f train"]


def trace(name: str, version: str) -> Trace:
    """Return the trace of a version (a number or an alias); UserError if what it needs is gone."""
    with open_store() as (client, _), tempfile.TemporaryDirectory(prefix="charlm-") as temporary:
        found = find_version(client, name, version)
        try:
            run = client.get_run(found.run_id)
            files = [_download(client, run, path, temporary) for path in (*KEPT_HERE, *KEPT_WITH_MODEL)]
        except (MlflowException, OSError) as error:
            said = " ".join(str(error).split())
            raise UserError(f"{name} version {found.version}: its run lacks what a trace needs: {said}") from None
        patch, surroundings, params, lock = files
        return Trace(
            name=name,
            version=found,
            run=run,
            commit=run.data.tags.get("git.commit", ""),
            patch=patch.read_bytes(),
            params=read_yaml(params),
            lock=read_yaml(lock),
            environment=read_json(surroundings),
        )


def _download(client: MlflowClient, run: Run, path: str, folder: str) -> Path:
    return Path(client.download_artifacts(run.info.run_id, path, folder))

"""Traces a registered version to its commit, params, data and environment, and rebuilds it to compare the bytes."""

import glob
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from ruamel.yaml import YAML

from pipeline.core.errors import UserError, one_line
from pipeline.core.files import read_json, sha256_of
from pipeline.model.saved import weights_path
from pipeline.params.generation import RegisterParams
from pipeline.params.reader import LOCK_FILE, PARAMS_FILE, parse_group, read_yaml
from pipeline.sources.finding import matching_files
from pipeline.tracking.execution import environment
from pipeline.tracking.project import experiments, git, project_root
from pipeline.tracking.publish import TRACE
from pipeline.tracking.registry import START_SHA256_TAG, START_TAG, find_version, from_registry, versions
from pipeline.tracking.store import REGISTRY, WEIGHTS_TAG, open_store

# The run's artifacts that a trace needs.
ARTIFACTS = (f"{TRACE}/changes.patch", f"{TRACE}/environment.json", "register/params.yaml", "register/dvc.lock")
# The stages that the weights depend on; a rebuild runs only these.
REBUILT = ("source", "ingest", "clean", "split", "validate", "train")
# The packages that can change a sum, given the same code, params and data.
NUMERIC_PACKAGES = ("torch", "numpy")


@dataclass(frozen=True)
class Trace:
    """What produced a version: `patch` turns `commit` into the code and params that ran; `lock` is the dvc.lock."""

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
        """Return the first line of the commit's message, or that the commit is not in this repository."""
        return git("log", "-1", "--format=%s", self.commit).strip() or "not in this repository"

    def still_in_dvc(self) -> bool:
        """Return whether DVC still holds the experiment."""
        return any(one.name == self.experiment for one in experiments())

    def hashes(self) -> dict[str, str]:
        """Return the MD5 of each output that the weights depend on, from the version's dvc.lock."""
        stages = self.lock.get("stages", {})
        return {
            out["path"]: out["md5"]
            for name in REBUILT
            for out in stages.get(name, {}).get("outs", [])
            if "md5" in out and not out["path"].startswith(("metrics", "plots", "reports"))
        }

    def differences_here(self) -> list[str]:
        """Return the differences between the version's environment and this one that may change the bytes."""
        here, there = environment(), self.environment
        found = [
            f"{name}: {there.get(name)} there, {here[name]} here"
            for name in ("python", "system", "processor")
            if there.get(name) not in {None, here[name]}
        ]
        return found + [
            f"{name}: {there['packages'].get(name)} there, {here['packages'].get(name)} here"
            for name in NUMERIC_PACKAGES
            if there.get("packages", {}).get(name) != here["packages"].get(name)
        ]

    def command(self, name: str) -> str:
        """Return the charlm command `name` for this version."""
        params = parse_group("register", self.params["register"], RegisterParams)
        is_default = self.name == params.name_for(str(self.params["data"]["source"]))
        model = "" if is_default else f" --model {self.name}"
        return f"charlm {name} {self.version.version}{model}"

    def commands(self) -> list[str]:
        """Return the commands that rebuild the model in a clone next to the project, run from the project's root."""
        place = f"../{self.name}-{self.version.version}"
        lines = [f"git clone --shared . {place} && git -C {place} checkout -q {self.commit}"]
        if self.patch:
            lines.append(f"{self.command('trace')} --patch | git -C {place} apply -")
        return [*lines, f"cd {place} && make install && .venv/bin/dvc repro -f train"]


def trace(name: str, version: str) -> Trace:
    """Return the trace of a version (a number or an alias); UserError if its run lacks what is needed."""
    with open_store() as (client, _), tempfile.TemporaryDirectory(prefix="charlm-") as temporary:
        found = find_version(client, name, version)
        if origin := found.tags.get("imported.from"):
            raise UserError(
                f"{name} version {found.version}: imported from {origin}; only the project that made it can trace it"
            )
        try:
            run = client.get_run(found.run_id)
            files = [Path(client.download_artifacts(run.info.run_id, path, temporary)) for path in ARTIFACTS]
        except (MlflowException, OSError) as error:
            message = one_line(error)
            raise UserError(f"{name} version {found.version}: its run lacks what a trace needs: {message}") from None
        patch, recorded_environment, params, lock = files
        return Trace(
            name=name,
            version=found,
            run=run,
            commit=run.data.tags.get("git.commit", ""),
            patch=patch.read_bytes(),
            params=read_yaml(params),
            lock=read_yaml(lock),
            environment=read_json(recorded_environment),
        )


MODEL_FILES = ("weights.safetensors", "config.json", "dictionary.json", "ngram.safetensors")


@dataclass(frozen=True)
class FileComparison:
    """The SHA-256 of one of the model's files, as registered and as rebuilt."""

    name: str
    registered: str
    rebuilt: str

    @property
    def same(self) -> bool:
        """Return whether the bytes are the same."""
        return self.registered == self.rebuilt


@contextmanager
def rebuilt(trace: Trace) -> Iterator[Path]:
    """Rebuild the version in a temporary clone: runs its stages up to `train`, and yields the clone's folder.

    Nothing is taken from DVC's cache. UserError if the commit is missing, the patch does not apply, or a stage fails.
    """
    what = f"{trace.name} version {trace.version.version}"
    root = project_root()
    if not git("rev-parse", "--verify", "--quiet", f"{trace.commit}^{{commit}}", folder=root):
        raise UserError(
            f"{what}: its commit {trace.commit or '(none)'} is not in this repository; `git fetch` it first"
        )
    with tempfile.TemporaryDirectory(prefix="charlm-verify-") as temporary:
        clone = Path(temporary) / "project"
        # The code and params that ran: the commit and the patch.
        _run_checked(["git", "clone", "--quiet", "--shared", "--no-checkout", str(root), str(clone)], what, folder=root)
        _run_checked(["git", "checkout", "--quiet", trace.commit], what, folder=clone)
        if trace.patch:
            _run_checked(["git", "apply", "--whitespace=nowarn", "-"], what, folder=clone, stdin=trace.patch)
        _make_source_absolute(clone, root)
        if START_TAG in trace.version.tags:
            _provide_start_model(clone, root, trace.version.tags, what)
        # With a shared cache DVC would restore the registered weights instead of training.
        (clone / ".dvc/config.local").write_text(f"[cache]\n    dir = {clone}/.dvc/cache\n", encoding="utf-8")
        command = [sys.executable, "-m", "dvc", "repro", "--quiet", "--force", "--no-run-cache", REBUILT[-1]]
        if _run(command, clone):
            raise UserError(f"{what}: it cannot be rebuilt: a stage failed, see above")
        yield clone


def compare(clone: Path, registered: Path) -> list[FileComparison]:
    """Return the comparison of each of the model's files in the folder `registered` with that in `clone`."""
    built = clone / "models/charlm"
    return [
        FileComparison(name, _hash(registered / name), _hash(built / name))
        for name in MODEL_FILES
        if (registered / name).exists() or (built / name).exists()
    ]


def _hash(path: Path) -> str:
    return sha256_of(path) if path.exists() else "(no such file)"


def changed_inputs(clone: Path, trace: Trace) -> list[str]:
    """Return the outputs before training that differ from the version's dvc.lock."""
    stages = read_yaml(clone / LOCK_FILE)["stages"]
    now = {out["path"]: out.get("md5") for name in REBUILT for out in stages[name].get("outs", [])}
    return [path for path, md5 in trace.hashes().items() if now.get(path) != md5 and not path.startswith("models")]


def _run(command: list[str], clone: Path) -> int:
    """Run a command in the clone, in its own process group, so that an interrupt kills all of its processes."""
    with subprocess.Popen(command, cwd=clone, env=_environment(clone), start_new_session=True) as process:
        try:
            return process.wait()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise


def _make_source_absolute(clone: Path, root: Path) -> None:
    """Make a relative data.source absolute if the clone does not have its files, since they are not in Git."""
    params, yaml = clone / PARAMS_FILE, YAML()
    content = yaml.load(params.read_text(encoding="utf-8"))
    source = content["data"]["source"]
    is_path = source != "sotu" and "://" not in source and not Path(source).is_absolute()
    if is_path and not (clone / source).exists() and not matching_files(source, clone)[1]:
        place = glob.escape(str(root)) if glob.has_magic(source) else str(root)
        content["data"]["source"] = f"{place}{os.sep}{source}"
        with params.open("w", encoding="utf-8") as file:
            yaml.dump(content, file)


def _provide_start_model(clone: Path, root: Path, tags: dict[str, str], what: str) -> None:
    """Let the clone start from the model that the version started from, found by the hash of its weights.

    The clone has no registry, and an alias may have moved since. UserError if the model is no longer there.
    """
    address, sha256 = tags[START_TAG], tags[START_SHA256_TAG]
    if address.startswith(REGISTRY):
        name = re.split("[@/]", address.removeprefix(REGISTRY))[0]
        with open_store() as (client, _):
            same = [one for one in versions(client, name) if one.tags.get(WEIGHTS_TAG) == sha256]
        if not same:
            raise UserError(f"{what}: it cannot be rebuilt: no version of {name} has weights of sha256 {sha256}")
        folder, _ = from_registry(f"{REGISTRY}{name}/{same[0].version}", option=what)
    else:
        folder = root / address
    found = sha256_of(weights_path(folder)) if weights_path(folder).is_file() else "no model"
    if found != sha256:
        raise UserError(f"{what}: it cannot be rebuilt: {address} has {found}, allowed are weights of sha256 {sha256}")
    params, yaml = clone / PARAMS_FILE, YAML()
    content = yaml.load(params.read_text(encoding="utf-8"))
    content["train"]["start_from"] = str(folder.resolve())
    with params.open("w", encoding="utf-8") as file:
        yaml.dump(content, file)


def _environment(clone: Path) -> dict[str, str]:
    own = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "MLFLOW_", "CHARLM_"))}
    path = os.pathsep.join([str(Path(sys.executable).parent), own.get("PATH", "")])
    return own | {"PATH": path, "PYTHONPATH": str(clone), "DVC_NO_ANALYTICS": "true"}


def _run_checked(command: list[str], what: str, *, folder: Path, stdin: bytes | None = None) -> None:
    done = subprocess.run(command, cwd=folder, input=stdin, capture_output=True, check=False)
    if done.returncode:
        message = one_line(done.stderr.decode("utf-8", "replace"))
        raise UserError(f"{what}: it cannot be rebuilt: {' '.join(command[:2])}: {message}")

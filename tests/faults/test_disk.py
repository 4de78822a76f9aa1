"""A full disk, a limit on the size of files, read-only folders: an error of one line, and nothing half-written.

A small finished project is made once. Each test has a copy of it, for a full disk in a small file system of its own.
"""

import ctypes
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from support.projects import ROOT, STAGES, TEXT, TINY

from pipeline.lineage.disk import relocate

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

# What each stage writes; summary only prints.
OUTPUTS = {
    "source": ["data/source.json"],
    "ingest": ["data/documents", "metrics/ingest.json"],
    "clean": ["data/clean", "reports/clean.csv", "metrics/clean.json"],
    "split": ["data/split", "metrics/split.json"],
    # data/validated.json is removed first: it must not say "passed" after a validation that did not end.
    "validate": ["reports/validation.json", "metrics/validate.json"],
    "train": ["models/charlm"],
    "evaluate": ["metrics/evaluate.json", "metrics/summary.json", "plots/position.csv"],
    "generate": ["samples", "metrics/generate.json"],
    "register": ["models/registration.json"],
}
MEGABYTES = 24
PROGRESS = re.compile(r"epoch |\w+: .+ in [\d.]+ s, [\d,]+ MB/s")
# From <sys/prctl.h> and <linux/capability.h>: root may write everywhere only with these capabilities.
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2


def environment():
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "DVC_", "CHARLM_"))}
    return kept | {"PYTHONPATH": str(ROOT), "MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1"}


def run(folder, *command, before=None):
    words = [sys.executable, "-m", *command]
    return subprocess.run(words, cwd=folder, env=environment(), capture_output=True, text=True, preexec_fn=before)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    for group, values in TINY.items():
        params[group].update(values)
    params["train"]["threads"] = 1
    YAML(typ="safe").dump(params, folder / "params.yaml")
    (folder / "text.txt").write_text(TEXT)
    for stage in STAGES:
        done = run(folder, f"stages.{stage}")
        assert done.returncode == 0, done.stderr
    return folder


def copied(finished, target):
    """Return a copy of the project, whose store has its artifacts in the copy too."""
    shutil.copytree(finished, target)
    relocate(target)
    return target


@pytest.fixture
def project(finished, tmp_path):
    return copied(finished, tmp_path / "project")


@contextmanager
def small_disk():
    """Give a folder on a disk of MEGABYTES."""
    folder = Path(tempfile.mkdtemp(prefix="charlm-disk-"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        folder.rmdir()
        pytest.skip("no permission to mount a small disk; test_a_limit_on_the_size_of_files_is_one_line runs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


def fill(folder, *, left=0):
    """Fill the disk of `folder` except for `left` bytes."""
    with (folder / "filler").open("wb") as file:
        free = shutil.disk_usage(folder).free
        file.write(bytes(max(0, free - left)))
    return folder / "filler"


def contents(folder, names):
    """Return the bytes of all files in the outputs `names`."""
    paths = [path for name in names for path in (folder / name, *sorted((folder / name).rglob("*")))]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths if path.is_file()}


def assert_one_line(done, *words):
    """Assert that the process ended with one line about its error.

    Before it there may be a line of progress (of a slow machine, or of training) and one with a warning.
    """
    lines = [line for line in done.stderr.splitlines() if not PROGRESS.match(line) and not line.startswith("warning: ")]
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert len(lines) == 1, done.stderr
    assert len(done.stderr.splitlines()) <= 4
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0]


@pytest.mark.parametrize("stage", OUTPUTS)
def test_a_full_disk_is_one_line_and_the_stage_succeeds_later(finished, stage):
    with small_disk() as disk:
        project = copied(finished, disk / "project")
        before = contents(project, OUTPUTS[stage])
        assert before
        filler = fill(disk)
        assert_one_line(run(project, f"stages.{stage}"), "the disk is full")
        assert contents(project, OUTPUTS[stage]) == before
        filler.unlink()
        done = run(project, f"stages.{stage}")
        assert done.returncode == 0, done.stderr
        assert not list(project.rglob(".*.part"))
        assert contents(project, OUTPUTS[stage]) == before


def test_a_disk_that_fills_while_the_model_is_written(finished):
    with small_disk() as disk:
        project = copied(finished, disk / "project")
        before = contents(project, ["models/charlm"])
        fill(disk, left=24 << 10)
        assert_one_line(run(project, "stages.train"), "models/charlm", "the disk is full", "bytes of it were written")
        assert contents(project, ["models/charlm"]) == before


@pytest.mark.parametrize("command", [["promote", "1", "--force"], ["sync"], ["relocate"], ["models"]])
def test_a_command_on_a_full_disk_is_one_line_or_succeeds(finished, command):
    with small_disk() as disk:
        project = copied(finished, disk / "project")
        fill(disk)
        done = run(project, "pipeline.cli.app", *command)
        assert "Traceback" not in done.stderr
        assert len(done.stderr.splitlines()) <= 1, done.stderr
        assert done.returncode in {0, 2}


def test_output_to_a_full_disk_is_one_line(project):
    with Path("/dev/full").open("w") as full:
        words = [sys.executable, "-m", "pipeline.cli.app", "generate", "The", "--num-chars", "5"]
        done = subprocess.run(words, cwd=project, env=environment(), stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == "error: the disk is full"


@pytest.mark.parametrize("stage", ["ingest", "split", "train", "register"])
def test_a_limit_on_the_size_of_files_is_one_line(project, stage):
    """As `ulimit -f`, and what a full disk is to a test without root."""
    before = contents(project, OUTPUTS[stage])

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512))

    assert_one_line(run(project, f"stages.{stage}", before=limit), "larger than this process may write")
    assert contents(project, OUTPUTS[stage]) == before


def as_normal_user():
    """Let the permissions of files hold, as they do for everyone but root; Python itself may be in root's folder."""
    if os.getuid() == 0:
        for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
            assert ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0


@contextmanager
def read_only(path):
    mode = path.stat().st_mode
    path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        yield
    finally:
        path.chmod(mode)


@pytest.mark.parametrize(
    ("folder", "stage"),
    [
        ("data", "ingest"),
        ("reports", "clean"),
        ("models", "train"),
        ("metrics", "evaluate"),
        (".", "generate"),
        (".charlm", "source"),
        (".charlm/sessions", "clean"),
    ],
)
def test_a_read_only_folder_is_one_line(project, folder, stage):
    before = contents(project, OUTPUTS[stage])
    with read_only(project / folder):
        done = run(project, f"stages.{stage}", before=as_normal_user)
    assert_one_line(done, folder if folder != "." else "samples", "access is denied")
    assert str(project) not in done.stderr
    if not folder.startswith(".charlm"):  # else only the record of a finished stage could not be saved
        assert contents(project, OUTPUTS[stage]) == before


@pytest.mark.parametrize("name", ["mlflow.db", "mlruns"])
def test_a_store_that_may_not_be_written_to_leaves_the_model_for_sync(project, name):
    inner = [path for path in (project / name).rglob("*") if path.is_dir()]
    for path in [*inner, project / name]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    done = run(project, "stages.register", before=as_normal_user)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "`charlm sync` registers it later" in done.stderr
    assert list((project / ".charlm/unsent").iterdir())

"""Damage to every file that a stage, a command or the server reads: it succeeds, or refuses the file with one line.

The files are found, not listed: those of each stage's deps in dvc.yaml, and for commands all outputs of the finished
project. So a file that is added later is covered. A reader gets a random choice of damages; each file is in it.
"""

import json
import os
import random
import shutil

import pytest
from ruamel.yaml import YAML
from support.damage import damages
from support.projects import ROOT

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

DVC = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
CODE = ("pipeline", "stages")
# What a reader may print besides its error, on standard error.
MESSAGES = ("warning: ", "model: ", "resuming ", "note: ")
CASES = 30
TIMEOUT = 300
APP = "pipeline.cli.app:main"
COMMANDS = {
    "generate": (APP, "generate", "abc", "--num-chars", "5"),
    "score": (APP, "score", "text.txt"),
    "summary": (APP, "summary"),
    "compare": (APP, "compare"),
    "report": (APP, "report", "--output", "report.html"),
    "serve": ("support.reads:serve",),
}


def files_of(folder, names):
    found = [path for name in names for path in (folder / name, *(folder / name).rglob("*")) if path.is_file()]
    return sorted({str(path.relative_to(folder)) for path in found})


def inputs(stage, folder):
    """Return the files that `stage` gets from others, and what charlm has saved for itself."""
    deps = [dep for dep in DVC[stage]["deps"] if dep.split("/")[0] not in CODE]
    state = ["described", "sessions", "params.accepted.yaml", "view.json"]
    return files_of(folder, [*deps, *(f".charlm/{name}" for name in state)])


def outputs(folder):
    names = [name for stage in DVC.values() for kind in ("outs", "metrics", "plots") for name in stage.get(kind, [])]
    return files_of(folder, [name if isinstance(name, str) else next(iter(name)) for name in names])


def cases(folder, names, seed):
    """Return (file, kind, bytes) of the damages to try: all of them, or CASES at random, with at least one per file."""
    everything = [
        (name, kind, content) for name in names for kind, content in damages(name, (folder / name).read_bytes(), seed)
    ]
    wanted = os.environ.get("CHARLM_FAULT_CASES") or CASES
    if wanted == "all":
        return everything
    chance = random.Random(seed)
    chance.shuffle(everything)
    firsts = {name: (name, kind, content) for name, kind, content in everything}
    return [*firsts.values(), *everything[: max(int(wanted) - len(firsts), 0)]]


def put(path, content):
    path.unlink()
    if content is not None:
        path.write_bytes(content)


def problem(done, folder, before):
    """Return what is wrong with how a reader ended, None if it is as promised."""
    if done.code not in {0, 2}:
        return f"code {done.code}"
    if "Traceback" in done.error:
        return "a traceback"
    lines = [line for line in done.error.splitlines() if line.strip() and not line.startswith(MESSAGES)]
    errors = [line for line in lines if line.startswith("error: ")]
    if done.code == 2 and (len(errors) != 1 or lines[-1] != errors[0] or len(errors[0]) > 1000):
        return "not one line"
    if done.code == 0 and errors:
        return "an error, but code 0"
    if left := [path for path in folder.rglob(".*.part") if not path.name.startswith(".std")]:
        return f"left {left[0]}"
    for path in (*folder.glob("metrics/*.json"), *folder.glob("samples/*.json")):
        if before.get(str(path.relative_to(folder))) != path.stat().st_mtime_ns:  # written by the reader
            json.loads(path.read_text(), parse_constant=lambda name, path=path: pytest.fail(f"{path.name}: {name}"))
    return None


def copied(project, target):
    """Return a copy of `project`, without MLflow's artifacts, of which there are many."""
    return shutil.copytree(project, target, ignore=shutil.ignore_patterns("mlruns"))


def try_all(read, project, chosen, tmp_path):
    """Let `read` read each of the `chosen` damages; fail with a list of those that it did not survive."""
    bad = []
    for number, (name, kind, content) in enumerate(chosen):
        folder = copied(project, tmp_path / str(number))
        put(folder / name, content)
        before = {out: (folder / out).stat().st_mtime_ns for out in outputs(folder)}
        done = read(folder)
        why = problem(done, folder, before)
        if why is None and done.code == 2:
            now = {out: (folder / out).stat().st_mtime_ns for out in before if (folder / out).exists()}
            half = [out for out in now if now[out] != before[out] and not (folder / out).stat().st_size]
            why = f"{half[0]} is empty" if half else None
        if why is not None:
            bad.append(f"{name}, {kind}: {why}\n    {done.error.strip()[-1500:]}")
        shutil.rmtree(folder)
    print(f"{len(chosen)} damages, {len(chosen) - len(bad)} survived")
    assert not bad, "\n".join([f"{len(bad)} of {len(chosen)}", *bad])


@pytest.mark.parametrize("stage", DVC)
def test_a_stage_survives_damaged_files(stage, finished, server, seed, tmp_path):
    chosen = cases(finished, inputs(stage, finished), seed)
    assert chosen
    call = "stages.register:main" if stage == "register" else "support.reads:stage"
    try_all(lambda folder: server.run(folder, call, stage, timeout=TIMEOUT), finished, chosen, tmp_path)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_survives_damaged_files(command, finished, server, seed, tmp_path):
    chosen = cases(finished, outputs(finished), seed)
    assert chosen
    try_all(lambda folder: server.run(folder, *COMMANDS[command], timeout=TIMEOUT), finished, chosen, tmp_path)

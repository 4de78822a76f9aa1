"""A stage's record: what it left in small files, read back as what MLflow gets.

Everything comes from the files that the stage declares, so that a stage which did not need to run, or was restored by
DVC, has the same record as one that ran.
"""

import csv
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError, one_line
from pipeline.core.files import read_json
from pipeline.params.dvc_lock import LOCK_FILE
from pipeline.params.reader import flatten
from pipeline.tracking.git import git


@dataclass(frozen=True)
class Files:
    """The small files of one stage, relative to the project; `after` are the stages it needs."""

    after: tuple[str, ...]
    metrics: str | None = None
    curve: str | None = None
    artifacts: tuple[str, ...] = ()


STAGES: dict[str, Files] = {
    "source": Files(after=()),
    "ingest": Files(after=("source",), metrics="metrics/ingest.json", artifacts=("data/source.json",)),
    "clean": Files(after=("ingest",), metrics="metrics/clean.json", artifacts=("reports/clean.csv",)),
    "split": Files(after=("clean",), metrics="metrics/split.json", artifacts=("data/split/dictionary.json",)),
    "validate": Files(
        after=("split",),
        metrics="metrics/validate.json",
        artifacts=("reports/validation.json", "reports/alphabet.csv", "reports/data_docs"),
    ),
    "train": Files(
        after=("validate",),
        metrics="metrics/train.json",
        curve="plots/train.csv",
        artifacts=("plots/train.csv",),
    ),
    "evaluate": Files(
        after=("train",),
        metrics="metrics/evaluate.json",
        artifacts=("plots/position.csv", "plots/characters.csv", "plots/mistakes.csv"),
    ),
    "generate": Files(after=("train",), metrics="metrics/generate.json", artifacts=("samples",)),
    "register": Files(
        after=("evaluate", "generate"),
        artifacts=("models/registration.json", "params.yaml", "dvc.yaml", "dvc.lock"),
    ),
}


# Stages whose numbers are about the model. What the other stages count is about the text: tags, not metrics.
MODEL_STAGES = ("train", "evaluate", "generate")
# Numbers of these stages that do not depend on the model; the last part of their names.
FACTS = ("num_chars", "test_chars", "threads")


@dataclass(frozen=True)
class Record:
    """One stage's metrics, tags, curve points and artifacts.

    MLflow groups metrics by what is before the slash: `evaluate/perplexity`. Tags have a dot: `split.characters`.
    A curve point is (step, seconds, values).
    """

    stage: str
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    curve: list[tuple[int, float, dict[str, float]]] = field(default_factory=list)
    artifacts: list[Path] = field(default_factory=list)


def read_record(stage: str, folder: Path) -> Record:
    """Return the record of `stage` from its files under `folder`; a file that is not there is left out."""
    files = STAGES[stage]
    metrics, tags = {}, {}
    for name, value in _metrics(folder, files.metrics).items():
        if stage in MODEL_STAGES and isinstance(value, int | float) and name.rpartition(".")[2] not in FACTS:
            metrics[metric_name(stage, name)] = float(value)
        elif value is not None:
            tags[f"{stage}.{name}"] = str(value)
    artifacts = [folder / name for name in files.artifacts if (folder / name).exists()]
    return Record(
        stage=stage, metrics=metrics, tags=tags, curve=_curve(stage, folder, files.curve), artifacts=artifacts
    )


def metric_name(stage: str, name: str) -> str:
    """Return MLflow's name of a figure of `stage`."""
    return f"{stage}/{name}"


def stages_before(stage: str) -> list[str]:
    """Return the stages whose results `stage` rests on, in the pipeline's order."""
    needed, todo = set(), list(STAGES[stage].after)
    while todo:
        name = todo.pop()
        if name not in needed:
            needed.add(name)
            todo += STAGES[name].after
    return [name for name in STAGES if name in needed]


def _metrics(folder: Path, name: str | None) -> dict[str, Any]:
    if name is None or not (folder / name).exists():
        return {}
    try:
        return flatten(read_json(folder / name))
    except (ValueError, AttributeError, OSError):
        raise UserError(f"{name}: not readable as JSON; `dvc repro` or `dvc checkout` brings it back") from None


def _curve(stage: str, folder: Path, name: str | None) -> list[tuple[int, float, dict[str, float]]]:
    if name is None or not (folder / name).exists():
        return []
    with (folder / name).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        (
            int(row["step"]),
            float(row["seconds"]),
            {
                metric_name(stage, key): float(value)
                for key, value in row.items()
                if key not in {"step", "seconds"} and value
            },
        )
        for row in rows
    ]


# DVC keeps an experiment as refs/exps/<2 digits of its baseline>/<the other 38>/<name>.
REFS = "refs/exps/??/*/*"


@dataclass(frozen=True)
class Experiment:
    """A DVC experiment: its name, the commits it builds on and is, and when it was made (Unix seconds)."""

    name: str
    baseline: str
    commit: str
    made: float


def experiments() -> list[Experiment]:
    """Return the experiments that DVC holds here, whatever they build on, the oldest first."""
    form = "%(refname) %(objectname) %(committerdate:unix)"
    found = []
    for line in git("for-each-ref", f"--format={form}", REFS, "--sort=committerdate").splitlines():
        ref, commit, made = line.rsplit(" ", 2)
        _, _, two, rest, name = ref.split("/", 4)
        found.append(Experiment(name=name, baseline=f"{two}{rest}", commit=commit, made=float(made)))
    return found


@contextmanager
def snapshot(revision: str) -> Iterator[Path]:
    """Give a temporary folder with the small files, the splits and the model of `revision`, laid out as the project.

    `revision` is what DVC understands: an experiment's name, a commit, a branch. What DVC's cache and remote do not
    have is left out. UserError if there is no such revision.
    """
    from dvc.api import DVCFileSystem
    from dvc.scm import RevError, SCMError
    from dvc_data.index import DataIndexDirError

    with tempfile.TemporaryDirectory(prefix="charlm-") as temporary:
        files = DVCFileSystem(rev=revision)
        for name in _names():
            target = Path(temporary) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                files.get(name, str(target), recursive=True)
            except (FileNotFoundError, DataIndexDirError, ImportError):  # the last: a remote's plugin is missing
                continue
            except RevError:
                raise UserError(f"{revision}: no such experiment or commit; `dvc exp list --all` names them") from None
            except SCMError as error:
                raise UserError(f"{revision}: {one_line(error)}") from None
        yield Path(temporary)


def _names() -> list[str]:
    names = ["params.yaml", str(LOCK_FILE), "dvc.yaml", "data/split/eval", "models/charlm", "plots/tutorial.csv"]
    for files in STAGES.values():
        names += [name for name in (files.metrics, files.curve, *files.artifacts) if name]
    # Data Docs are no output, so no revision has them.
    return [name for name in dict.fromkeys(names) if name != "reports/data_docs"]

"""Reads a stage's record, which MLflow gets, from the metrics and plots that the stage wrote.

A record comes only from the stage's files. So it is the same whether the stage ran, did not need to, or was restored by
DVC.
"""

import csv
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from pipeline.core.errors import UserError, one_line
from pipeline.core.files import read_json
from pipeline.evaluation.measurement import MEASUREMENT
from pipeline.params.reader import LOCK_FILE, flatten


@dataclass(frozen=True)
class Files:
    """The metrics, curve and artifacts of one stage, relative to the project; `after` are the stages that it needs."""

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


Number = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


# What the readers of a stage's files need of them; `read_checked` refuses a file that lacks it.


class SplitFigures(TypedDict):
    """metrics/split.json."""

    train_chars: Count
    eval_chars: Count


class TrainFigures(TypedDict):
    """metrics/train.json."""

    seconds: Number
    parameters: Count
    precision: str
    device: str


class EvaluateFigures(TypedDict):
    """metrics/evaluate.json."""

    perplexity: Number
    bits_per_char: Number
    baseline_perplexity: NotRequired[Number]
    baseline: NotRequired[str]
    network_perplexity: NotRequired[Number]


class Sample(TypedDict):
    """An element of samples/samples.json."""

    mode: Literal["greedy", "sampled"]
    temperature: Number
    prompt: str
    completion: str


class Registration(TypedDict):
    """models/registration.json."""

    model_name: str | None
    perplexity: NotRequired[Number]
    weights_sha256: str
    measurement_id: NotRequired[str]


# A point of a curve: step, seconds since the start of training, values by name.
Point = tuple[int, float, Mapping[str, float]]

# The numbers of these stages describe the model: they are metrics. Those of the others describe the text: tags.
MODEL_STAGES = ("train", "evaluate", "generate")
# Names (their last part) of numbers that do not depend on the model, so they are tags too.
FACTS = ("num_chars", "test_chars", "threads", "workers")


@dataclass(frozen=True)
class Record:
    """One stage's metrics, tags, curve points and artifacts.

    MLflow groups metrics by what is before the slash: `evaluate/perplexity`. Tags have a dot: `split.characters`.
    """

    stage: str
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    curve: list[Point] = field(default_factory=list)
    artifacts: list[Path] = field(default_factory=list)


def read_record(stage: str, folder: Path) -> Record:
    """Return the record of `stage` from its files under `folder`; missing files are left out."""
    files = STAGES[stage]
    metrics, tags = {}, {}
    for name, value in _metrics(folder, files.metrics).items():
        is_fact = name.startswith(f"{MEASUREMENT}.") or name.rpartition(".")[2] in FACTS
        if stage in MODEL_STAGES and isinstance(value, int | float) and not is_fact:
            metrics[metric_name(stage, name)] = float(value)
        elif value is not None:
            tags[f"{stage}.{name}"] = str(value)
    artifacts = [folder / name for name in files.artifacts if (folder / name).exists()]
    return Record(
        stage=stage, metrics=metrics, tags=tags, curve=_curve(stage, folder, files.curve), artifacts=artifacts
    )


def metric_name(stage: str, name: str) -> str:
    """Return the name that a figure of `stage` has in MLflow."""
    return f"{stage}/{name}"


def stages_before(stage: str) -> list[str]:
    """Return the stages whose results `stage` needs, directly or not, in the pipeline's order."""
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
        raise UserError(f"{name}: not readable as JSON; `dvc repro` or `dvc checkout` restores it") from None


def _curve(stage: str, folder: Path, name: str | None) -> list[Point]:
    if name is None or not (folder / name).exists():
        return []
    try:
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
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        raise UserError(f"{name}: not a training curve; `dvc repro` or `dvc checkout` restores it") from None


@contextmanager
def snapshot(revision: str) -> Iterator[Path]:
    """Give a temporary folder with the metrics, plots, eval text and model of `revision`, laid out as the project.

    `revision` is an experiment's name, a commit or a branch. Files that are neither in DVC's cache nor in its remote
    are left out. UserError if there is no such revision.
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
            except (
                FileNotFoundError,
                DataIndexDirError,
                ImportError,
            ):  # the remote's plugin is missing
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
    # Data Docs are not a DVC output, so no revision has them.
    return [name for name in dict.fromkeys(names) if name != "reports/data_docs"]

"""Makes the summary that ends `dvc repro` and `dvc exp run`: figures, what differs from the commit, what to do next."""

import os
import shlex
from pathlib import Path
from typing import TypeVar

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text
from typing_extensions import TypedDict

from pipeline.core.errors import UserError
from pipeline.core.files import read_checked
from pipeline.evaluation.measurement import MEASUREMENT_ID
from pipeline.tracking.differences import Changes, changes
from pipeline.tracking.project import baseline, project_root
from pipeline.tracking.records import Count, EvaluateFigures, Number, Registration, Sample, TrainFigures
from pipeline.tracking.store import CHAMPION, Registered, local_versions, model_key, registry_is_remote

MAX_CHANGES = 8
SAMPLE_LINES, SAMPLE_CHARACTERS = 4, 320

T = TypeVar("T")


def summary(root: Path, *, runs_page: str | None = None) -> RenderableType:
    """Return the summary of the outputs in `root`; `runs_page` is the address of MLflow's table of runs.

    UserError if the pipeline has not run.
    """
    evaluate = _read(root / "metrics/evaluate.json", _Measured)
    train = _read(root / "metrics/train.json", TrainFigures)
    samples = _read(root / "samples/samples.json", list[Sample])
    registration = _read(root / "models/registration.json", Registration)
    overlap = _read(root / "metrics/validate.json", _Validated)["overlap"]["eval"]
    if not samples:
        raise UserError("samples/samples.json: has no sample; `dvc repro` or `dvc checkout` restores it")
    sample = next((one for one in samples if one["mode"] == "sampled"), samples[0])

    figures = _grid()
    figures.add_row("perplexity", _perplexity(evaluate))
    if "network_perplexity" in evaluate:
        figures.add_row("network alone", f"{evaluate['network_perplexity']:.3f}  without its n-gram model")
    figures.add_row(
        "bits per character", f"[bold]{evaluate['bits_per_char']:.3f}[/]  on {evaluate['num_chars']:,} characters"
    )
    where = escape(f"{train['precision']} on {train['device']}")
    figures.add_row("trained in", f"{train['seconds']:.0f} s  {train['parameters']:,} parameters, {where}")
    figures.add_row("overlap", f"{overlap:.2%} of the eval text also occurs in the training text")
    figures.add_row("differs from the commit", _changes(root))
    text, address = _model(registration)
    figures.add_row("model", text)

    shown = Text(sample["prompt"], style="bold", overflow="fold", no_wrap=False).append(
        _short(sample["completion"]), style="not bold"
    )
    return Group(
        Text(),
        Rule("charlm", align="left", style="dim"),
        figures,
        Rule(f"a sample, temperature {sample['temperature']}  (more: samples/samples.txt)", align="left", style="dim"),
        Padding(shown, (0, 2)),
        Rule(f"what next{_activation()}", align="left", style="dim"),
        _commands(sample["prompt"], address, runs_page),
    )


class _Measured(EvaluateFigures):
    num_chars: Count


class _Overlap(TypedDict):
    eval: Number


class _Validated(TypedDict):
    overlap: _Overlap


def _perplexity(evaluate: EvaluateFigures) -> str:
    shown = f"[bold]{evaluate['perplexity']:.3f}[/]"
    if "baseline_perplexity" not in evaluate or "baseline" not in evaluate:
        return shown
    return f"{shown}  baseline {evaluate['baseline_perplexity']:.3f} ({escape(evaluate['baseline'])})"


def _changes(root: Path) -> Text:
    found: Changes = changes(baseline(), folder=root)
    if not found.params and not found.files:
        return Text("nothing")
    lines = [f"{key} {before} → {now}" for key, before, now in found.params[:MAX_CHANGES]]
    if (more := len(found.params) - MAX_CHANGES) > 0:
        lines.append(f"and {more} more params")
    if found.files:
        shown = ", ".join(found.files[:3])
        lines.append(f"files: {shown}{f' and {len(found.files) - 3} more' if len(found.files) > 3 else ''}")
    text = Text("\n".join(lines))
    if found.params:
        # An experiment's temporary copy changes nothing in the project itself.
        in_workspace = root.resolve() == project_root()
        undo = "undo: git checkout params.yaml" if in_workspace else "params.yaml in the workspace is unchanged"
        text.append(f"\n{undo}", style="dim")
    return text


def _model(registration: Registration) -> tuple[Text, str | None]:
    """Return what the registry says about this model, and its address there, None if it is not registered."""
    name = registration["model_name"]
    if name is None:
        return Text("not registered (register.enabled is false)"), None
    if registry_is_remote():
        return Text(f"{name}; `charlm models` shows its version on the server"), f"models:/{name}@{CHAMPION}"
    key = model_key(registration["weights_sha256"], registration.get("perplexity"), registration.get(MEASUREMENT_ID))
    found = local_versions(name).get(key) if key else None
    if found is None:
        return Text(f"{name}: not in the registry yet; `charlm sync` registers it"), None
    # The address of this model, which may not be the champion.
    address = f"models:/{name}@{CHAMPION}" if found.alias == CHAMPION else f"models:/{name}/{found.version}"
    return _version(found), address


def _version(found: Registered) -> Text:
    text = Text(f"{found.model} version {found.version}")
    if found.alias:
        text.append(", ").append(found.alias, style="bold")
    return text.append(f": {found.reason}") if found.reason else text


def _short(completion: str) -> str:
    """Return the first lines of a sample's completion."""
    short = "\n".join(completion[:SAMPLE_CHARACTERS].split("\n")[:SAMPLE_LINES])
    return short if short == completion else f"{short.rstrip()} …"


def _commands(prompt: str, address: str | None, runs_page: str | None) -> Text:
    commands = [
        ("compare the experiments", "charlm compare"),
        ("compare the runs", "mlflow ui"),
        *([("", f"then open {runs_page}")] if runs_page else []),
        ("try another size", "dvc exp run -S model.num_hidden=128"),
        ("generate text", f"charlm generate {_quoted(prompt)}"),
        ("play with it", "charlm serve"),
        *(
            [("serve it with MLflow", f"mlflow models serve -m {address} --env-manager local -p 5001")]
            if address
            else []
        ),
    ]
    # Not a table, since a long command must stay on one line to be copied.
    shown = Text(no_wrap=True, overflow="ignore")
    for what, command in commands:
        shown.append(f"{what:24}  ", style="dim").append(f"{command}\n", style="cyan")
    shown.rstrip()
    return shown


def _quoted(prompt: str) -> str:
    """Return the prompt quoted for a shell, in double quotes if possible, since they are easier to read."""
    return f'"{prompt}"' if not set(prompt) & set('"\\$`!\n') else shlex.quote(prompt)


def _activation() -> str:
    """Return the command that activates the environment, if none is active: `make repro` needs none."""
    return "" if os.environ.get("VIRTUAL_ENV") else "  (first: . .venv/bin/activate)"


def _grid() -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", min_width=24)
    table.add_column(overflow="fold")
    return table


def _read(path: Path, kind: type[T]) -> T:
    if not path.exists():
        raise UserError(f"{path.name}: not there yet; run `dvc repro` first")
    return read_checked(path, kind)

"""The summary at the end of `make repro`: what was made, and the commands for what comes next."""

from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from pipeline.errors import UserError
from pipeline.files import read_json

COMMANDS = (
    ("compare the runs", "mlflow ui"),
    ("compare the experiments", "dvc exp show"),
    ("try another size", "dvc exp run -S model.num_hidden=128"),
    ("write a text", 'charlm generate "The United States are"'),
    ("play with it", "charlm serve"),
    ("serve the model", "mlflow models serve -m models:/{model}@champion --env-manager local -p 5001"),
)


def summary(root: Path) -> RenderableType:
    """Return the summary of the outputs under `root`; UserError if the pipeline has not run."""
    evaluate = _read(root / "metrics/evaluate.json")
    train = _read(root / "metrics/train.json")
    samples = _read(root / "samples/samples.json")
    registration = _read(root / "models/registration.json")
    sample = next((one for one in samples if one["mode"] == "sampled"), samples[0])

    figures = _grid()
    figures.add_row(
        "perplexity",
        f"[bold]{evaluate['perplexity']:.3f}[/]  on {evaluate['num_chars']:,} characters of eval text",
    )
    figures.add_row("bits per character", f"[bold]{evaluate['bits_per_char']:.3f}[/]")
    figures.add_row(
        "trained in",
        f"{train['seconds']:.0f} s  {train['parameters']:,} parameters, {train['precision']} on {train['device']}",
    )
    figures.add_row("metrics", "metrics/*.json  (dvc metrics show)")
    figures.add_row("samples", "samples/samples.txt")

    model = registration["model_name"] or "charlm"
    # No table here: a long command must stay one line, to be copied.
    todo = Text(no_wrap=True, overflow="ignore")
    for what, command in COMMANDS:
        todo.append(f"{what:24}  ", style="dim").append(f"{command.format(model=model)}\n", style="cyan")
    todo.rstrip()
    text = Text(sample["prompt"], style="bold", overflow="fold", no_wrap=False).append(
        sample["completion"], style="not bold"
    )
    return Group(
        Text(),
        Rule("charlm", align="left", style="dim"),
        figures,
        Rule(f"a sample, temperature {sample['temperature']}", align="left", style="dim"),
        Padding(text, (0, 2)),
        Rule("what next  (first: . .venv/bin/activate)", align="left", style="dim"),
        todo,
    )


def _grid() -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", min_width=24)
    table.add_column(overflow="fold")
    return table


def _read(path: Path) -> Any:
    try:
        return read_json(path)
    except (OSError, ValueError):
        raise UserError(f"{path.name}: not there yet; run `dvc repro` first") from None

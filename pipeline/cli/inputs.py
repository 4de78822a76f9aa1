"""Which model a command uses: the same `--model`, default and message for `generate`, `score` and `serve`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.core.errors import UserError

if TYPE_CHECKING:
    from pipeline.serving.model_source import Located


# The model of the last run in this project.
DEFAULT_MODEL = "models/charlm"
ModelAddress = Annotated[str, typer.Option(help="A folder, models:/NAME@ALIAS or models:/NAME/VERSION.")]


def find_model(address: str) -> "Located":
    """Return the model at `address`, and print on standard error which one it is; UserError if there is none."""
    from pipeline.serving.model_source import locate  # numba: not for --help

    found = locate(address)
    say_model(address, version=found.version, perplexity=found.perplexity)
    return found


def say_model(address: str, *, version: str | None, perplexity: float | None) -> None:
    """Print on standard error which model is used."""
    by_alias = f", version {version}" if version and "@" in address else ""
    known = f", perplexity {perplexity:.3f}" if perplexity else ""
    print(f"model: {address}{by_alias}{known}", file=sys.stderr, flush=True)


def need_own_model(root: Path) -> None:
    """Raise UserError unless the last run's model is in the project: Git has its metrics and plots also without it."""
    from pipeline.model.saved import NO_MODEL_YET, OWN_MODEL, WEIGHTS  # numpy: not for --help

    if not (root / OWN_MODEL / WEIGHTS).exists():
        raise UserError(f"{OWN_MODEL}: {NO_MODEL_YET}")


MAX_BYTES = 1 << 30


def read_text(path: Path | None) -> str:
    """Return the text of `path`, UTF-8; of standard input for "-" or None. UserError if it cannot be read."""
    name = "standard input" if path is None or str(path) == "-" else str(path)
    try:
        if name != "standard input":
            with Path(name).open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        else:
            content = sys.stdin.buffer.read(MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f"{name}: {(error.strerror or str(error)).lower()}") from None
    if len(content) > MAX_BYTES:
        raise UserError(f"{name}: more than {MAX_BYTES:,} bytes, allowed is a text of at most that")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: not UTF-8 (byte {error.start:,})") from None

"""Input that several commands share: `--model` with its default and message, and text from a file or a pipe."""

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
    """Return the model at `address`, and print its address on standard error; UserError if there is none."""
    from pipeline.serving.model_source import locate  # numba: not for --help

    found = locate(address)
    print_model(address, version=found.version, perplexity=found.perplexity)
    return found


def print_model(address: str, *, version: str | None, perplexity: float | None) -> None:
    """Print on standard error which model is used."""
    by_alias = f", version {version}" if version and "@" in address else ""
    known = f", perplexity {perplexity:.3f}" if perplexity else ""
    print(f"model: {address}{by_alias}{known}", file=sys.stderr, flush=True)


def need_own_model(root: Path) -> None:
    """Raise UserError unless the project has a model of its own; metrics and plots alone are in Git without it."""
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
        raise UserError(f"{name}: found more than {MAX_BYTES:,} bytes, allowed are at most that many")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: not UTF-8 (byte {error.start:,})") from None

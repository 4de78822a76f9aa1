"""`charlm export`: a model as a file that others can use without charlm. The file's ending selects the form."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.filesize import decimal

from pipeline.cli.inputs import DEFAULT_MODEL, ModelAddress, find_model
from pipeline.core.errors import UserError
from pipeline.params.generation import GenerateParams
from pipeline.params.reader import PARAMS_FILE, read_group

if TYPE_CHECKING:
    from pipeline.export.page import Exported
    from pipeline.export.payload import Format
    from pipeline.serving.model_source import Located

UNITS = {"b": 1, "kb": 1000, "mb": 1_000_000}


def export(
    target: Annotated[Path, typer.Argument(help="The file to write: NAME.html is a page with the model in it.")],
    model: ModelAddress = DEFAULT_MODEL,
    weights: Annotated[
        Literal["auto", "bf16", "int8"],
        typer.Option(help="Format of the weights; auto: int8 if that raises the perplexity by at most 0.5 %."),
    ] = "auto",
    ngram_size: Annotated[
        str, typer.Option(help="Most bytes for the n-gram model, like 900KB or 1MB; 0: without it.")
    ] = "900KB",
    title: Annotated[str, typer.Option(help="The page's title; by default the model's name.")] = "",
    prompt: Annotated[
        str | None, typer.Option(help="The text in the page's field at first; by default that of params.yaml.")
    ] = None,
    *,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is already there.")] = False,
) -> None:
    """Write a model as one HTML page that anyone can open and play with: it needs no server and no network."""
    form: Format | None = None if weights == "auto" else weights
    forms: dict[str, Callable[[Located], None]] = {
        ".html": lambda found: _export_page(
            found, target, weights=form, ngram_bytes=ngram_bytes, title=title, prompt=prompt
        )
    }
    write = forms.get(target.suffix.lower())
    ngram_bytes = _bytes_of(ngram_size)
    if write is None:
        ending = f"the ending {target.suffix!r}" if target.suffix else "no ending"
        raise UserError(f"{target}: found {ending}, allowed is {' or '.join(forms)}")
    if target.is_dir():
        raise UserError(f"{target}: is a folder, allowed is the name of a file")
    if target.exists() and not force:
        raise UserError(f"{target}: already exists; --force replaces it")
    write(find_model(model))


def _bytes_of(size: str) -> int:
    """Return the number of bytes that `size` names; UserError if it is not a size."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(b|kb|mb)?", size.strip().lower())
    if not found:
        raise UserError(f"--ngram-size: found {size!r}, allowed is a size like 900KB or 1MB, or 0")
    return int(float(found[1]) * UNITS[found[2] or "b"])


def _export_page(
    found: "Located", target: Path, *, weights: "Format | None", ngram_bytes: int, title: str, prompt: str | None
) -> None:
    from pipeline.export.page import export_page  # numba: not for --help

    if prompt is None:
        params = read_group("generate", GenerateParams) if PARAMS_FILE.exists() else GenerateParams()
        prompt = params.prompts[0]
    done = export_page(
        found, target, weights=weights, ngram_bytes=ngram_bytes, title=title or found.name, prompt=prompt
    )
    print(f"{target}: {decimal(done.size)}")
    print(f"network     {decimal(done.network)} as {done.weights}, perplexity {done.weights_cost:+.2%}")
    if done.ngram_of:
        print(f"n-gram      {_ngram_line(done)}")
    measured = f"on {done.measured:,} characters of {done.text}"
    print(f"perplexity  {done.perplexity:.3f}, the model's own {done.own:.3f}, {measured}")


def _ngram_line(done: "Exported") -> str:
    """Return what became of the n-gram model."""
    if not done.ngram_chars:
        return f"left out, perplexity {done.ngram_cost:+.2%}"
    if done.ngram_chars == done.ngram_of:
        return f"{decimal(done.ngram)}, all of it: counted from {done.ngram_of:,} characters"
    counted = f"counted from the last {done.ngram_chars:,} of {done.ngram_of:,} characters"
    return f"{decimal(done.ngram)}, {counted}, perplexity {done.ngram_cost:+.2%}"

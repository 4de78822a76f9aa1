"""The `charlm` command: what is not a DVC stage."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipeline.cli.presets import apply_preset, list_presets, read_preset
from pipeline.cli.summary import summary
from pipeline.errors import UserError
from pipeline.params.generate import GenerateParams
from pipeline.params.reader import PARAMS_FILE, read_group

app = typer.Typer(
    help="Character-level language models: what goes with `dvc repro` and `mlflow ui`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

MODEL_FOLDER = Path("models/charlm")


def main() -> None:
    """Run the command; a UserError becomes one line and exit code 2."""
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


@app.command()
def preset(
    name: Annotated[str | None, typer.Argument(help="The preset's name; without it, all are listed.")] = None,
    *,
    apply: Annotated[bool, typer.Option("--apply", help="Write the preset into params.yaml instead.")] = False,
) -> None:
    """Print a preset as -S options: dvc exp run $(charlm preset tutorial)."""
    if name is None:
        for one in list_presets():
            print(f"{one.name:12} {one.title}")
        return
    found = read_preset(name)
    if apply:
        apply_preset(found, PARAMS_FILE)
    else:
        print(" ".join(found.options()))


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="The text to continue.")],
    model: Annotated[Path, typer.Option(help="The model's folder.")] = MODEL_FOLDER,
    num_chars: Annotated[int | None, typer.Option(help="How many characters to write.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 is greedy; 1 is the model's own distribution.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Draw from the k most likely characters; 0: all.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Draw from the most likely that sum to p; 1: all.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed, the same text.")] = None,
    stop: Annotated[list[str] | None, typer.Option(help="End before this text; may be given several times.")] = None,
    *,
    greedy: Annotated[bool, typer.Option("--greedy", help="The same as --temperature 0.")] = False,
) -> None:
    """Continue a text, printing it as it is written. Options not given are those of params.yaml's group generate."""
    from pipeline.generation.sampling import Sampling  # numpy: not for --help
    from pipeline.generation.text import Writer

    params = read_group("generate", GenerateParams) if PARAMS_FILE.exists() else GenerateParams()
    asked = 0.0 if greedy else temperature
    sampling = Sampling(
        max_new_chars=params.num_chars if num_chars is None else num_chars,
        temperature=params.temperature if asked is None else asked,
        top_k=params.top_k if top_k is None else top_k,
        top_p=params.top_p if top_p is None else top_p,
        seed=params.seed if seed is None else seed,
        stop=tuple(stop or ()),
    )
    writer = Writer.load(model)
    for warning in writer.read_prompt(prompt).warnings:
        print(f"warning: {warning}", file=sys.stderr)
    sys.stdout.write(prompt)
    for char in writer.stream(prompt, sampling):
        sys.stdout.write(char)
        sys.stdout.flush()
    sys.stdout.write("\n")


@app.command()
def relocate() -> None:
    """After the project's folder was moved: let MLflow's artifact addresses point here."""
    from pipeline.tracking.relocate import relocate as move_addresses  # sqlite: not for --help

    old, changed = move_addresses(Path.cwd())
    print(f"{changed} addresses changed from {old}" if changed else "the addresses are right: nothing to do")


@app.command("summary")
def show_summary() -> None:
    """Show what the last run of the pipeline made, and what can be done with it."""
    Console(highlight=False).print(summary(Path.cwd()), crop=False)


if __name__ == "__main__":
    main()

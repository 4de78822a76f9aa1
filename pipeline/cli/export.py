"""`charlm export` and `charlm import`: a model as a file or folder for others, and theirs in the registry."""

import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer
from rich.filesize import decimal

from pipeline.cli.models import DEFAULT_MODEL, ModelAddress, find_model
from pipeline.core.errors import UserError, without_secrets
from pipeline.core.files import SUBSTRINGS
from pipeline.params.generation import GenerateParams
from pipeline.params.reader import PARAMS_FILE, read_group

if TYPE_CHECKING:
    from pipeline.export.onnx_file import OnnxWeights
    from pipeline.export.page import Exported
    from pipeline.export.payload import Format
    from pipeline.serving.model_source import Located

LICENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.\-]{0,60}")
MODEL_NAME = re.compile(r"[A-Za-z0-9_.\- ]{1,100}")
UNITS = {"b": 1, "kb": 1000, "mb": 1_000_000}


# The formats of weights that each form has; "auto" is the first choice of all. The other options of a form are its own.
WEIGHTS = {".html": ("int8", "bf16"), ".onnx": ("fp32", "bf16"), "": ("fp32",)}
OPTIONS = {".html": ("--ngram-size", "--title", "--prompt"), ".onnx": (), "": ("--licence", "--ngram-size")}
NGRAM_SIZE = "900KB"


def export(
    target: Annotated[
        str, typer.Argument(help="NAME.html: a page with the model; NAME.onnx: the network; NAME/: a folder for a hub.")
    ],
    model: ModelAddress = DEFAULT_MODEL,
    weights: Annotated[
        Literal["auto", "fp32", "bf16", "int8"],
        typer.Option(help="auto: fp32; in a page, int8 if that raises the perplexity by at most 0.5 %, else bf16."),
    ] = "auto",
    ngram_size: Annotated[
        str | None,
        typer.Option(help=f"Most bytes of a page's n-gram model, like 1MB (default {NGRAM_SIZE}); 0: without it."),
    ] = None,
    title: Annotated[str | None, typer.Option(help="Page: its title; by default the model's name.")] = None,
    prompt: Annotated[
        str | None, typer.Option(help="Page: the text in its field at first; by default that of params.yaml.")
    ] = None,
    licence: Annotated[str | None, typer.Option(help="Folder: a hub's name for the licence, like mit.")] = None,
    *,
    force: Annotated[bool, typer.Option("--force", help="Replace what is already there.")] = False,
) -> None:
    """Write a model for others: an HTML page that needs no server, an ONNX file, or a folder for a model hub."""
    path, form = Path(target), "" if target.endswith("/") else Path(target).suffix.lower()
    if form not in WEIGHTS:
        raise UserError(f"{target}: found the ending {form!r}, allowed is NAME.html, NAME.onnx or a folder NAME/")
    if weights not in ("auto", *WEIGHTS[form]):
        raise UserError(f"--weights: found {weights}, allowed for {target} is auto, {', '.join(WEIGHTS[form])}")
    given = {"--ngram-size": ngram_size, "--title": title, "--prompt": prompt, "--licence": licence}
    for option, value in given.items():
        if value is not None and option not in OPTIONS[form]:
            raise UserError(f"{option}: found with {target}, allowed is {' or '.join(_forms_with(option))}")
    if licence is not None and not LICENCE.fullmatch(licence):
        raise UserError(f"--licence: found {licence!r}, allowed is a hub's name like mit or cc-by-4.0")
    ngram_bytes = _bytes_of(NGRAM_SIZE if ngram_size is None else ngram_size)
    _check_target(path, is_folder=not form, force=force)
    found = find_model(model)
    if form == ".html":
        page_weights: Format | None = None if weights == "auto" else cast("Format", weights)
        _export_page(found, path, weights=page_weights, ngram_bytes=ngram_bytes, title=title or "", prompt=prompt)
    elif form == ".onnx":
        _export_onnx(found, path, weights="bf16" if weights == "bf16" else "fp32")
    else:
        if ngram_size is not None and ngram_bytes:
            raise UserError(f"--ngram-size: found {ngram_size} with {target}, allowed is 0: all of it or nothing")
        _export_folder(found, path, licence=licence, ngram=ngram_size is None)


def _forms_with(option: str) -> list[str]:
    return [f"NAME{form or '/'}" for form, options in OPTIONS.items() if option in options]


def _check_target(path: Path, *, is_folder: bool, force: bool) -> None:
    """Raise UserError if `path` cannot be written, or may not be replaced."""
    if path.is_dir() != is_folder and path.exists():
        found, allowed = ("file", "folder") if is_folder else ("folder", "file")
        raise UserError(f"{path}: is a {found}, allowed is the name of a {allowed}")
    if path.exists() and not force:
        raise UserError(f"{path}: already exists; --force replaces it")
    if is_folder and path.exists() and not (path / "manifest.json").is_file():
        # The whole folder would be replaced.
        raise UserError(f"{path}: is a folder that `charlm export` did not write; allowed is a new name")


def _export_onnx(found: "Located", target: Path, *, weights: "OnnxWeights") -> None:
    from pipeline.export.onnx_file import write_onnx  # onnx: not for --help
    from pipeline.model.saved import SavedModel
    from pipeline.serving.model_source import card_at

    model = SavedModel.load(found.folder)
    write_onnx(model, target, card=card_at(found, model), weights=weights)
    left_out = "; without the n-gram model, which ONNX cannot express" if model.ngram else ""
    print(f"{target}: {decimal(target.stat().st_size)}, the network as {weights}{left_out}")


# The settings of the samples on a model card.
SAMPLES = ((0.5, 1), (0.8, 2), (1.0, 3))
SAMPLE_CHARS = 300


def _export_folder(found: "Located", target: Path, *, licence: str | None, ngram: bool) -> None:
    from pipeline.export.hub_folder import write_hub_folder  # numba: not for --help
    from pipeline.generation.text import Writer
    from pipeline.model.saved import SavedModel
    from pipeline.params.sampling import Sampling
    from pipeline.serving.model_source import card_at

    model = SavedModel.load(found.folder)
    card = card_at(found, model) | {"name": target.name}
    if model.ngram is not None and not ngram:
        # The figures are those of the whole model.
        model = model.without_ngram()
        card |= {"ngram_order": 0, "perplexity": None, "baseline_perplexity": None, "bits_per_char": None}
    samplings = [Sampling(max_new_chars=SAMPLE_CHARS, temperature=heat, seed=seed) for heat, seed in SAMPLES]
    done = Writer(model).generate([""] * len(samplings), samplings)
    samples = [
        (f"temperature {heat:g}, seed {seed}", one.completion) for (heat, seed), one in zip(SAMPLES, done, strict=True)
    ]
    substrings = found.folder / SUBSTRINGS.name
    write_hub_folder(
        model,
        target,
        card=card,
        samples=samples,
        licence=licence,
        substrings=substrings if substrings.is_file() else None,
    )
    size = sum(path.stat().st_size for path in target.iterdir())
    print(f"{target}/: {decimal(size)}; read {target}/README.md before you publish it")
    if model.ngram is not None:
        print("ngram.safetensors contains the training text; --ngram-size 0 leaves it out")


def import_(
    address: Annotated[str, typer.Argument(help="A folder or zip file of `charlm export`, or hf://ORGANISATION/NAME.")],
    name: Annotated[str, typer.Option(help="The registered model's name; by default that of the folder.")] = "",
) -> None:
    """Register a model that someone else exported, after checking all of its files. Nothing in it is run."""
    from pipeline.export.importing import opened, register_import  # numba and MLflow: not for --help

    own = PurePosixPath(address.rstrip("/")).name.removesuffix(".zip")
    if not MODEL_NAME.fullmatch(name or own):
        raise UserError(
            f"--name: found {name or own!r}, allowed are 1 to 100 letters, digits, spaces and the characters . _ -"
        )
    origin = without_secrets(address) if "://" in address else PurePosixPath(address).name
    with opened(address) as (folder, model, card):
        print(register_import(folder, model, card, name=name or own, origin=origin))


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
    if done.ngram_chars:
        print("the page contains that training text; --ngram-size 0 leaves it out")


def _ngram_line(done: "Exported") -> str:
    """Return what became of the n-gram model."""
    if not done.ngram_chars:
        return f"left out, perplexity {done.ngram_cost:+.2%}"
    if done.ngram_chars == done.ngram_of:
        return f"{decimal(done.ngram)}, all of it: counted from {done.ngram_of:,} characters"
    counted = f"counted from the last {done.ngram_chars:,} of {done.ngram_of:,} characters"
    return f"{decimal(done.ngram)}, {counted}, perplexity {done.ngram_cost:+.2%}"

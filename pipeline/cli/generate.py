"""`charlm generate` continues a text, and `charlm score` measures how well a model predicts one."""

import json
import math
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.style import Style
from rich.text import Text

from pipeline.cli.models import DEFAULT_MODEL, ModelAddress, find_model
from pipeline.core.errors import UserError
from pipeline.core.reproducible import sample_seed
from pipeline.params.generation import GenerateParams
from pipeline.params.reader import PARAMS_FILE, read_group
from pipeline.params.sampling import Precision, Sampling, sampling_options
from pipeline.reporting.project import INVISIBLE

if TYPE_CHECKING:
    from pipeline.generation.text import Writer
    from pipeline.generation.text_types import Score
    from pipeline.model.saved import SavedModel


MAX_SAMPLES = 10_000
MAX_BYTES = 1 << 30


def _option(name: str) -> Any:
    """Return typer's option for a sampling option, with its help."""
    return typer.Option(help=sampling_options()[name].help)


def generate(
    prompt: Annotated[str | None, typer.Argument(help="The text to continue; without it, standard input.")] = None,
    file: Annotated[Path | None, typer.Option(help="Read the prompt from this file; -: standard input.")] = None,
    model: ModelAddress = DEFAULT_MODEL,
    num_chars: Annotated[int | None, _option("max_new_chars")] = None,
    temperature: Annotated[float | None, _option("temperature")] = None,
    top_k: Annotated[int | None, _option("top_k")] = None,
    top_p: Annotated[float | None, _option("top_p")] = None,
    min_p: Annotated[float | None, _option("min_p")] = None,
    repetition_penalty: Annotated[float | None, _option("repetition_penalty")] = None,
    repetition_window: Annotated[int | None, _option("repetition_window")] = None,
    ngram_weight: Annotated[float | None, _option("ngram_weight")] = None,
    allowed: Annotated[str | None, _option("allowed")] = None,
    seed: Annotated[int | None, _option("seed")] = None,
    stop: Annotated[list[str] | None, _option("stop")] = None,
    samples: Annotated[int, typer.Option("-n", "--samples", help="Completions, each with its own seed.")] = 1,
    precision: Annotated[Precision | None, typer.Option(help="bf16: faster for large networks.")] = None,
    *,
    greedy: Annotated[bool, typer.Option("--greedy", help="The same as --temperature 0.")] = False,
    stream: Annotated[
        bool, typer.Option(help="Print characters as they are generated.", show_default="on in a terminal")
    ] = sys.stdout.isatty(),
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON for each completion.")] = False,
    interactive: Annotated[
        bool, typer.Option("--interactive", help="Take turns: type, let the model continue, type more.")
    ] = False,
) -> None:
    """Continue a text. Options default to the group generate in params.yaml."""
    from pipeline.generation.text import Writer  # numba: not for --help

    if prompt is not None and file is not None:
        raise UserError("--file: found together with a prompt, allowed is one of them")
    if not 1 <= samples <= MAX_SAMPLES:
        raise UserError(f"--samples: found {samples}, allowed is 1 to {MAX_SAMPLES}")
    if interactive and (samples > 1 or as_json):
        raise UserError("--interactive: writes one text, as text; allowed without -n and --json")
    if greedy and temperature:
        raise UserError(f"--temperature: found {temperature:g} together with --greedy, allowed is one of them")
    params = read_group("generate", GenerateParams) if PARAMS_FILE.exists() else GenerateParams()
    given = {
        "max_new_chars": num_chars,
        "temperature": 0.0 if greedy else temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "repetition_window": repetition_window,
        "ngram_weight": ngram_weight,
        "seed": seed,
    }
    chosen = params.sampling() | {name: value for name, value in given.items() if value is not None}
    sampling = _sampling(chosen, allowed=allowed, stop=tuple(stop or ()))
    starts_with_input = interactive and file is None
    text = (prompt or "") if prompt is not None or starts_with_input else read_text(file)
    writer = Writer.load(find_model(model).folder, precision=precision or params.precision)
    if interactive:
        _take_turns(writer, text, sampling)
        return
    _warn(writer.encode_prompt(text).warnings)
    if samples == 1 and stream and not as_json:
        _show(text)
        for one in writer.stream(text, sampling):
            _show(one.char)
        _show("\n")
        return
    seeds = [sample_seed(sampling.seed, number) for number in range(samples)]
    texts = writer.generate([text] * samples, [replace(sampling, seed=seed) for seed in seeds])
    for number, (own_seed, done) in enumerate(zip(seeds, texts, strict=True), start=1):
        if as_json:
            answer = {
                "prompt": text,
                "completion": done.completion,
                "seed": own_seed,
                "finish_reason": done.finish_reason,
                "log_prob": round(float(done.log_probs.sum(dtype="f8")), 4),
                "warnings": done.warnings,
            }
            _show(json.dumps(answer, ensure_ascii=False) + "\n")
        else:
            _show((f"--- {number} of {samples}, seed {own_seed}\n" if samples > 1 else "") + done.text + "\n")


def read_text(path: Path | None) -> str:
    """Return the text of `path`, UTF-8; of standard input for "-" or None. UserError if it cannot be read."""
    name = "standard input" if path is None or str(path) == "-" else str(path)
    try:
        with nullcontext(sys.stdin.buffer) if name == "standard input" else Path(name).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f"{name}: {(error.strerror or str(error)).lower()}") from None
    if len(content) > MAX_BYTES:
        raise UserError(f"{name}: found more than {MAX_BYTES:,} bytes, allowed are at most that many")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: not UTF-8 (byte {error.start:,})") from None


def _sampling(chosen: dict[str, Any], *, allowed: str | None, stop: tuple[str, ...]) -> Sampling:
    """Return the sampling options, checked; UserError names the option as the user types it."""
    try:
        return Sampling(**chosen, allowed=allowed, stop=stop)
    except UserError as error:
        field, _, rest = str(error).partition(": ")
        option = "num-chars" if field == "max_new_chars" else field.replace("_", "-")
        raise UserError(f"--{option}: {rest}") from None


def _take_turns(writer: "Writer", text: str, sampling: Sampling) -> None:
    """Continue `text`, then read what the user types, continue after that, and so on, with all of it as the context.

    When the model ends the text by itself, what is typed next begins a new one.
    """
    _print_note("Type and press Enter: the model continues. Enter alone: it generates more. Ctrl-D ends.")
    state, at = None, 0
    while True:
        _warn(writer.encode_prompt(text).warnings)
        if text or at:
            state = writer.read(text, state)
            _show(text if not at else "")
            written = ""
            text_in_progress = writer.start_text(
                writer.encode_prompt("").ids, replace(sampling, seed=sample_seed(sampling.seed, at)), state=state
            )
            for one in writer.stream_text(text_in_progress):
                written += one.char
                _show(one.char)
            state = None if text_in_progress.ended else writer.read(written, state)
            _show("\n")
            if text_in_progress.ended:
                _print_note("The text has ended; what you type begins a new one.")
            at += 1
        try:
            text = input("> " if sys.stdin.isatty() else "")
        except (EOFError, KeyboardInterrupt):
            _show("\n")
            return
        at = at or (0 if text else 1)


def _warn(warnings: Sequence[str]) -> None:
    for warning in warnings:
        _print_note(f"warning: {warning}")


def _print_note(line: str) -> None:
    print(line, file=sys.stderr)


def _show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


# Characters of 10 bits or more (a probability under 1 in 1000) are shown in full red.
MOST_BITS = 10.0


def score(
    file: Annotated[Path | None, typer.Argument(help="A text, UTF-8; without it, or for -, standard input.")] = None,
    model: ModelAddress = DEFAULT_MODEL,
    precision: Annotated[Precision, typer.Option(help="Precision of the weights.")] = "fp32",
    show: Annotated[int, typer.Option(help="How many characters to show, coloured by surprise.")] = 1000,
    *,
    adapt: Annotated[bool, typer.Option("--adapt", help="Learn from the text on the way: slower, and lower.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as one JSON object.")] = False,
) -> None:
    """Measure how well the model predicts a text: perplexity, bits per character, and each character's surprise.

    The text is read from start to end with one state; the stage evaluate starts each window from the zero state.
    With --adapt the model learns from each piece of the text after it was scored; the saved model stays as it is.
    """
    from pipeline.generation.text import Writer  # numba: not for --help
    from pipeline.model.saved import SavedModel

    if adapt and precision != "fp32":
        raise UserError(f"--precision: found {precision}, allowed is fp32 with --adapt")
    text = read_text(file)
    saved = SavedModel.load(find_model(model).folder)
    scored = _adapted(saved, text) if adapt else Writer(saved, precision=precision).score(text)
    if not scored.text:
        raise UserError(f"{file or 'standard input'}: contains no character that the model knows")
    if as_json:
        figures = {
            "characters": len(scored.text),
            "unknown": scored.dropped,
            "perplexity": round(scored.perplexity, 4),
            "bits_per_char": round(scored.bits_per_char, 4),
        }
        print(json.dumps(figures))
        return
    console = Console(highlight=False)
    if show > 0 and console.is_terminal:
        console.print(shaded(scored, show))
        console.print(_legend())
    print(
        f"perplexity {scored.perplexity:.3f}, {scored.bits_per_char:.3f} bits per character, "
        f"{len(scored.text):,} characters"
    )
    if scored.dropped:
        print(f"warning: left out {scored.dropped:,} characters that the model does not know", file=sys.stderr)


def shaded(scored: "Score", length: int) -> Text:
    """Return the first `length` characters, each on a background that is redder the less likely it was."""
    text = Text()
    for char, log_prob in zip(scored.text[:length], scored.log_probs[:length].tolist(), strict=True):
        style = background(-log_prob / math.log(2))
        text.append(INVISIBLE["\n"] if char == "\n" else char, style)
        if char == "\n":
            text.append("\n")
    if length < len(scored.text):
        text.append(" …")
    return text


def background(bits: float) -> Style:
    """Return black on a colour from white (expected) over yellow to red (surprising)."""
    share = min(1.0, max(0.0, bits / MOST_BITS))
    green, blue = round(255 - 150 * share**1.5), round(255 - 175 * share**0.6)
    return Style(color="black", bgcolor=f"rgb(255,{green},{blue})")


def _adapted(model: "SavedModel", text: str) -> "Score":
    """Return what `Writer.score` does, of the model that learns from `text` on the way."""
    try:
        import torch
    except ImportError as error:
        raise UserError(f"--adapt: needs PyTorch ({error}); without it a model can be scored, but not learn") from None
    import numpy as np

    from pipeline.dataset.splits import Split
    from pipeline.evaluation.adaptive import adapt
    from pipeline.generation.text import opened
    from pipeline.generation.text_types import Score
    from pipeline.model.network import CharNetwork

    torch.set_num_threads(1)  # as in evaluate: small steps do not profit from two, and the figures stay the same
    dictionary = model.dictionary
    every = dictionary.encode(text)
    known = every[every >= dictionary.first_id]
    # A model that knows neither newline nor space reads the first character without a prediction.
    ids = np.concatenate([opened(dictionary, known[:0]), known]) if len(known) else known
    network = CharNetwork(model.config)
    network.load_weights(model.weights)
    documents = None if dictionary.begin is None else np.zeros(min(1, len(ids)), dtype=np.int64)
    split = Split(ids.astype(dictionary.dtype), {}, documents)
    found = [-scored.nll for scored in adapt(network, split, ngram=model.ngram)]
    log_probs = np.concatenate([np.empty(0), *found]).astype(np.float32)
    return Score(dictionary.decode(split.ids[len(ids) - len(log_probs) :]), log_probs, dropped=len(every) - len(known))


def _legend() -> Text:
    text = Text("bits ")
    for bits in range(0, int(MOST_BITS) + 1, 2):
        text.append(f" {bits} ", background(bits))
    return text

"""`charlm generate`: continue a text in the terminal, in a pipe, or in turns."""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.inputs import DEFAULT_MODEL, ModelAddress, find_model, read_text
from pipeline.core.errors import UserError
from pipeline.core.seeds import sample_seed
from pipeline.generation.sampling import Sampling
from pipeline.params.generation import GenerateParams, Precision
from pipeline.params.reader import PARAMS_FILE, read_group

if TYPE_CHECKING:
    from pipeline.generation.text import Writer

MAX_SAMPLES = 10_000


def generate(
    prompt: Annotated[str | None, typer.Argument(help="The text to continue; without it, standard input.")] = None,
    file: Annotated[Path | None, typer.Option(help="Read the prompt from this file; -: standard input.")] = None,
    model: ModelAddress = DEFAULT_MODEL,
    num_chars: Annotated[int | None, typer.Option(help="How many characters to write.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 is greedy; 1 is the model's own distribution.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Draw from the k most likely characters; 0: all.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Draw from the most likely that sum to p; 1: all.")] = None,
    min_p: Annotated[
        float | None, typer.Option(help="Leave out what is less likely than p times the likeliest.")
    ] = None,
    repetition_penalty: Annotated[float | None, typer.Option(help="Over 1: recent characters are less likely.")] = None,
    repetition_window: Annotated[
        int | None, typer.Option(help="How many characters the penalty looks back at.")
    ] = None,
    allowed: Annotated[str | None, typer.Option(help="Write no other characters than these.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed, the same text.")] = None,
    stop: Annotated[list[str] | None, typer.Option(help="End before this text; may be given several times.")] = None,
    samples: Annotated[int, typer.Option("-n", "--samples", help="How many texts, each with a seed of its own.")] = 1,
    precision: Annotated[Precision | None, typer.Option(help="bf16: large networks write faster.")] = None,
    *,
    greedy: Annotated[bool, typer.Option("--greedy", help="The same as --temperature 0.")] = False,
    stream: Annotated[
        bool, typer.Option(help="Print as it is written.", show_default="on in a terminal")
    ] = sys.stdout.isatty(),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per text and line.")] = False,
    interactive: Annotated[
        bool, typer.Option("--interactive", help="Take turns: type, let it go on, type more.")
    ] = False,
) -> None:
    """Continue a text. Options not given are those of params.yaml's group generate."""
    from pipeline.generation.text import Writer  # numba: not for --help

    if prompt is not None and file is not None:
        raise UserError("--file: found beside a prompt, allowed is one of them")
    if not 1 <= samples <= MAX_SAMPLES:
        raise UserError(f"--samples: found {samples}, allowed is 1 to {MAX_SAMPLES}")
    if interactive and (samples > 1 or as_json):
        raise UserError("--interactive: writes one text, as text; allowed without -n and --json")
    if greedy and temperature:
        raise UserError(f"--temperature: found {temperature:g} beside --greedy, allowed is one of them")
    params = read_group("generate", GenerateParams) if PARAMS_FILE.exists() else GenerateParams()
    given = {
        "max_new_chars": num_chars, "temperature": 0.0 if greedy else temperature, "top_k": top_k, "top_p": top_p,
        "min_p": min_p, "repetition_penalty": repetition_penalty, "repetition_window": repetition_window, "seed": seed,
    }  # fmt: skip
    defaults = {name: getattr(params, "num_chars" if name == "max_new_chars" else name) for name in given}
    chosen: dict[str, Any] = {name: defaults[name] if value is None else value for name, value in given.items()}
    sampling = _sampling(chosen, allowed=allowed, stop=tuple(stop or ()))
    waits_for_typing = interactive and file is None
    text = (prompt or "") if prompt is not None or waits_for_typing else read_text(file)
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
                "prompt": text, "completion": done.completion, "seed": own_seed, "finish_reason": done.finish_reason,
                "log_prob": round(float(done.log_probs.sum(dtype="f8")), 4), "warnings": done.warnings,
            }  # fmt: skip
            _show(json.dumps(answer, ensure_ascii=False) + "\n")
        else:
            _show((f"--- {number} of {samples}, seed {own_seed}\n" if samples > 1 else "") + done.text + "\n")


def _sampling(chosen: dict[str, Any], *, allowed: str | None, stop: tuple[str, ...]) -> Sampling:
    """Return the options, checked; UserError names the option as it is typed."""
    try:
        return Sampling(**chosen, allowed=allowed, stop=stop)
    except UserError as error:
        field, _, rest = str(error).partition(": ")
        option = "num-chars" if field == "max_new_chars" else field.replace("_", "-")
        raise UserError(f"--{option}: {rest}") from None


def _take_turns(writer: "Writer", text: str, sampling: Sampling) -> None:
    """Continue `text`, then what is typed after it, and so on; the model goes on from all that stands there.

    When it ends the text by itself, what is typed next begins another.
    """
    _say("Type and press Enter, and the model goes on; Enter alone: it writes more. Ctrl-D ends.")
    state, at = None, 0
    while True:
        _warn(writer.encode_prompt(text).warnings)
        if text or at:
            state = writer.read(text, state)
            _show(text if not at else "")
            written = ""
            draft = writer.start_text(
                writer.encode_prompt("").ids, replace(sampling, seed=sample_seed(sampling.seed, at)), state=state
            )
            for one in writer.stream_text(draft):
                written += one.char
                _show(one.char)
            state = None if draft.ended else writer.read(written, state)
            _show("\n")
            if draft.ended:
                _say("The text has ended; what you type begins another.")
            at += 1
        try:
            text = input("> " if sys.stdin.isatty() else "")
        except (EOFError, KeyboardInterrupt):
            _show("\n")
            return
        at = at or (0 if text else 1)


def _warn(warnings: Sequence[str]) -> None:
    for warning in warnings:
        _say(f"warning: {warning}")


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()

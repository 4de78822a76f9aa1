"""`charlm score`: measures how well a model predicts a text, and shows each character's surprise."""

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.style import Style
from rich.text import Text

from pipeline.cli.inputs import DEFAULT_MODEL, ModelAddress, find_model, read_text
from pipeline.core.errors import UserError
from pipeline.params.sampling import Precision
from pipeline.reporting.formatting import INVISIBLE

if TYPE_CHECKING:
    from pipeline.generation.text_types import Score
    from pipeline.model.saved import SavedModel

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

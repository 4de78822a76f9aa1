"""The network and the length of training that suit a text's size, and the hint when a text is too small.

Measured on the first characters of the tutorial's speeches and on a French text, one run each (docs/your-own-text.md
has the figures). A small text needs more passes with smaller batches, since the number of updates decides, and more
dropout, since a network can learn it by heart. A large text needs no whole pass.
"""

from dataclasses import dataclass

from pipeline.corpus.advice import Advice
from pipeline.model.config import NetworkConfig
from pipeline.params.model import ModelParams

# Below this a text is too small to be learnt well, whatever the network.
SMALL_TEXT = 100_000
# A network with more parameters than this for a character of text learns the text by heart.
MOST_PARAMETERS = 10.0
# Characters to train on that take a minute or two with the default network on two cores.
TRAINED_CHARS = 6_000_000


@dataclass(frozen=True)
class Fit:
    """What suits a text of fewer than `below` characters; None leaves the default."""

    below: int
    hidden: int
    dropout: float
    batch: int
    rate: float
    epochs: float


FITS = (
    Fit(100_000, 256, 0.5, 8, 0.006, 12.0),
    Fit(500_000, 384, 0.3, 32, 0.01, 7.0),
)
DEFAULT = Fit(2_000_000, 384, 0.0, 32, 0.01, 3.5)

THE_DEFAULT = "the default"


def fit(characters: int) -> list[Advice]:
    """Return `model` and `train` for a text of so many characters, with reasons."""
    one = next((one for one in FITS if characters < one.below), DEFAULT)
    size = f"{characters:,} characters"
    small, epochs = one is not DEFAULT, one.epochs
    if characters >= DEFAULT.below:
        epochs = max(round(TRAINED_CHARS / characters, 2), 0.01)
    if characters >= DEFAULT.below:
        passes = f"about {TRAINED_CHARS / 1e6:.0f} million characters train in a minute or two"
    else:
        passes = f"so few characters need more passes than the default {DEFAULT.epochs:g}" if small else THE_DEFAULT
    batches = "more updates in each pass of a small text" if one.batch < DEFAULT.batch else THE_DEFAULT
    forgets = f"without it a network of {one.hidden} learns {size} by heart" if small else f"{THE_DEFAULT}: enough text"
    return [
        Advice("model.num_hidden", str(one.hidden), "gave the best perplexity for a text of this size"),
        Advice("model.dropout", f"{one.dropout:g}", forgets),
        Advice("train.epochs", f"{epochs:g}", passes),
        Advice("train.batch_size", str(one.batch), batches),
        Advice("train.optimizer.lr", f"{one.rate:g}", f"fits batches of {one.batch}"),
    ]


def hint(characters: int, model: ModelParams, *, vocab_size: int) -> str | None:
    """Return a line that says that a text is too small for its network, None if it is not."""
    shapes = NetworkConfig.of(model, vocab_size=vocab_size).shapes().values()
    parameters = sum(_product(shape) for shape in shapes)
    if characters >= SMALL_TEXT and parameters <= MOST_PARAMETERS * characters:
        return None
    found = f"HINT: {characters:,} characters are few for a network of {parameters:,} parameters"
    return f"{found}: expect misspelt words and phrases copied from the text; more text helps most"


def _product(shape: tuple[int, ...]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size

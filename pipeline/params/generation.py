"""Group `generate`: the samples that show what the model writes."""

import re
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field

from pipeline.params.base import Group
from pipeline.params.reader import PARAMS_FILE, read_group
from pipeline.params.text import DataParams

Precision = Literal["fp32", "bf16"]

# The bounds of every way to ask for text: params.yaml, the command line and the server (generation/sampling.py).
MAX_CHARS = 100_000
MAX_TEMPERATURE = 100.0
MAX_TOP_K = 1 << 31
MIN_PENALTY, MAX_PENALTY = 0.01, 100.0
MAX_WINDOW = 1000
MAX_SEED = (1 << 63) - 1


class GenerateParams(Group):
    """For each prompt one greedy text and `num_samples` drawn ones.

    `top_k: 0`, `top_p: 1`, `min_p: 0` and `repetition_penalty: 1` leave all characters; the penalty looks back at
    `repetition_window` characters. The order in which they apply: `pipeline/generation/sampling.py`. `precision: bf16`
    rounds the weights, which makes large networks faster.
    """

    prompts: Annotated[tuple[str, ...], Field(min_length=1)] = ("The United States are",)
    num_chars: Annotated[int, Field(ge=1, le=MAX_CHARS)] = 300
    num_samples: Annotated[int, Field(ge=0, le=1000)] = 2
    temperature: Annotated[float, Field(ge=0, le=MAX_TEMPERATURE)] = 0.8
    top_k: Annotated[int, Field(ge=0, le=MAX_TOP_K)] = 0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    repetition_penalty: Annotated[float, Field(ge=MIN_PENALTY, le=MAX_PENALTY)] = 1.0
    repetition_window: Annotated[int, Field(ge=0, le=MAX_WINDOW)] = 64
    precision: Precision = "fp32"
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 7


AUTO = "auto"
SOTU = "sotu"
PROJECT = "charlm"
MAX_NAME = 100
PACKED = (".gz", ".zst", ".zip", ".bz2", ".xz")


class RegisterParams(Group):
    """`model_name: auto` is a name for each text, after its source (`name_for`).

    `enabled: false` logs the model without registering it. `max_perplexity` is what a champion may have at most.
    """

    enabled: bool = True
    model_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.\- ]{1,100}$")] = AUTO
    max_perplexity: Annotated[float, Field(gt=1)] = 5.0

    def name_for(self, source: str) -> str:
        """Return the registered model's name for the text `source` (`data.source`).

        `auto` is `charlm` for the built-in source, and else `charlm-NAME`, NAME being the source's own name without
        its ending: in lower case, other characters than a-z and 0-9 as "-". Thus each text has its own champion.
        """
        if self.model_name != AUTO:
            return self.model_name
        return PROJECT if source == SOTU else f"{PROJECT}-{_slug(source)}"[:MAX_NAME].rstrip("-")


def registered_name(path: Path = PARAMS_FILE) -> str:
    """Return the registered model's name by the params in `path`; UserError if they are wrong."""
    params = read_group("register", RegisterParams, path)
    if params.model_name != AUTO:
        return params.model_name
    return params.name_for(read_group("data", DataParams, path).source)


def _slug(source: str) -> str:
    """Return the last part of an address that has a letter or a digit, as a name: `docs` of `docs/**/*.md`."""
    from anyascii import anyascii  # only for a text of one's own

    path = urlsplit(source).path if "://" in source else source.replace("\\", "/")
    for number, part in enumerate(reversed(PurePosixPath(path).parts)):
        stem = PurePosixPath(part)
        while number == 0 and stem.suffix.lower() in PACKED:
            stem = stem.with_suffix("")
        name = stem.stem if number == 0 else stem.name
        words = re.sub(r"[^a-z0-9]+", "-", anyascii(name).lower()).strip("-")
        if words:
            return words
    return "text"

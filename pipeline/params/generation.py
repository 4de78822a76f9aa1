"""Groups `generate` and `register`: the samples of what the model writes, and how the model is registered."""

import re
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field

from pipeline.params import Group
from pipeline.params.reader import PARAMS_FILE, read_group
from pipeline.params.sampling import (
    MaxNewChars,
    MinP,
    NgramWeight,
    Precision,
    RepetitionPenalty,
    RepetitionWindow,
    Seed,
    Temperature,
    TopK,
    TopP,
    sampling_options,
)
from pipeline.params.text import AUTO, SOTU, DataParams


class GenerateParams(Group):
    """The samples that show what the model writes: for each prompt one greedy text, and `num_samples` drawn ones.

    `pipeline/params/sampling.py` declares the sampling options; `pipeline/params/sampling.py` has the order in
    which they apply.
    """

    prompts: tuple[str, ...] = Field(
        default=("The United States are",), min_length=1, description="the texts to continue"
    )
    num_chars: MaxNewChars = Field(default=300, ge=1)
    num_samples: int = Field(default=2, ge=0, le=1000, description="drawn texts for each prompt, besides a greedy one")
    temperature: Temperature = 0.8
    top_k: TopK = 0
    top_p: TopP = 1.0
    min_p: MinP = 0.0
    repetition_penalty: RepetitionPenalty = 1.0
    repetition_window: RepetitionWindow = 64
    ngram_weight: NgramWeight = 1.0
    precision: Precision = Field(
        default="fp32", description="or bf16: the weights are rounded; large networks write twice as fast"
    )
    seed: Seed = 7

    def sampling(self) -> dict[str, Any]:
        """Return the options of `Sampling` that the group has."""
        shared = {name: getattr(self, name) for name in sampling_options() if name in type(self).model_fields}
        return {"max_new_chars": self.num_chars, **shared}


PROJECT = "charlm"
MAX_NAME = 100
PACKED = (".gz", ".zst", ".zip", ".bz2", ".xz")


class RegisterParams(Group):
    """How the model is registered in MLflow's registry."""

    enabled: bool = Field(default=True, description="false: the model is logged, but not registered")
    model_name: str = Field(
        default=AUTO,
        pattern=r"^[A-Za-z0-9_.\- ]{1,100}$",
        description="auto: charlm-SOURCE (of sotu: charlm), so that each text has its own champion",
    )
    max_perplexity: float = Field(default=5.0, gt=1, description="the highest perplexity that a champion may have")
    beat_baseline: bool = Field(
        default=True, description="a champion must have a lower perplexity than the n-gram baseline; false: it need not"
    )

    def name_for(self, source: str) -> str:
        """Return the registered model's name for the text `source` (`data.source`).

        `auto` is `charlm` for the built-in source, else `charlm-NAME`: NAME is the source's own name without its
        ending, in lower case, with characters other than a-z and 0-9 replaced by "-". Each text has its own champion.
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
    """Return the last part of an address that has a letter or a digit, as a name: `docs/**/*.md` gives `docs`."""
    from anyascii import anyascii  # only for a user's own text

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

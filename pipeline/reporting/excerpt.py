"""The beginning of the eval text as the models saw it: how many bits each character cost, and what else was likely."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.dataset.dictionary import Dictionary
from pipeline.dataset.splits import load_split
from pipeline.errors import UserError
from pipeline.generation.text import Score, Writer
from pipeline.reporting.project import Project, same_text
from pipeline.reporting.words import sign

ALONE, BESIDE = 3000, 1500
RIVALS = 4
# A character is shaded one level a bit, up to this: the playground's shades.
TOP_LEVEL = 10


@dataclass(frozen=True)
class Excerpt:
    """A text, and per character: bits, level of shading, and the likeliest characters with their percentages."""

    text: str
    bits: list[float]
    levels: list[int]
    likely: list[list[Any]]

    @property
    def bits_per_char(self) -> float:
        """The mean."""
        return sum(self.bits) / len(self.bits)

    @property
    def perplexity(self) -> float:
        """2 to the power of the mean."""
        return float(2**self.bits_per_char)

    @property
    def characters(self) -> list[tuple[str, int]]:
        """Each character, what cannot be printed by its sign, with its level."""
        shown = [char if char.isprintable() or char in "\n\t" else sign(char) for char in self.text]
        return list(zip(shown, self.levels, strict=True))

    def data(self) -> dict[str, Any]:
        """Return what the page's script knows: the signs, the bits, and the likeliest characters."""
        return {"signs": list(map(sign, self.text)), "bits": self.bits, "likely": self.likely}


def excerpts(projects: Sequence[Project]) -> list[Excerpt | None]:
    """Return an excerpt for each project, None where the model or the text is not there.

    Of one eval text all models read the same excerpt; else each reads its own.
    """
    length = ALONE if len(projects) == 1 else BESIDE
    texts = [_beginning(project, length) for project in projects]
    if same_text(projects):  # one of them may have the text where another's was not kept
        texts = [next(filter(None, texts), "")] * len(projects)
    return [_read(project, text) for project, text in zip(projects, texts, strict=True)]


def _beginning(project: Project, length: int) -> str:
    try:
        dictionary = Dictionary.load(project.folder / "data/split/dictionary.json")
        return dictionary.decode(np.asarray(load_split(project.folder / "data/split/eval").ids[:length]))
    except (UserError, IndexError):
        return ""


def _read(project: Project, text: str) -> Excerpt | None:
    try:
        writer = Writer.load(project.folder / "models/charlm", threads=1)
    except UserError:
        return None
    scored = writer.score(text, predictions=True)
    return _excerpt(scored, writer.dictionary.symbols) if scored.text else None


def _excerpt(scored: Score, symbols: Sequence[str]) -> Excerpt:
    if scored.predictions is None:
        raise ValueError("the score has no predictions")
    bits = np.maximum(-scored.log_probs.astype(np.float64) / math.log(2), 0)
    order = np.argsort(-scored.predictions, axis=1, kind="stable")[:, :RIVALS]
    shares = np.exp(np.take_along_axis(scored.predictions, order, axis=1).astype(np.float64)) * 100
    likely = [
        [part for i, share in zip(ids, row, strict=True) for part in (sign(symbols[i]), round(share, 1))]
        for ids, row in zip(order.tolist(), shares.tolist(), strict=True)
    ]
    levels = np.minimum(np.rint(bits), TOP_LEVEL).astype(int).tolist()
    return Excerpt(scored.text, [round(one, 2) for one in bits.tolist()], levels, likely)

"""The beginning of the eval text as the models saw it: how many bits each character cost, and what else was likely.

Where the text is of documents between begin and end symbols, each is read from its begin, and its end is shown as a
line break.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.core.errors import UserError
from pipeline.dataset.arrays import load_array
from pipeline.dataset.dictionary import END_MARK, Dictionary, Ids
from pipeline.generation.text import Writer
from pipeline.generation.text_types import Score
from pipeline.reporting.project import Project, same_text
from pipeline.reporting.samples import sign

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
        return _marked(dictionary, load_array(project.folder / "data/split/eval/ids.npy")[:length])
    except (UserError, IndexError):
        return ""


def _marked(dictionary: Dictionary, ids: Ids) -> str:
    """Return the text of `ids`, an END_MARK where a document ends."""
    symbols = list(dictionary.symbols)
    if dictionary.begin is not None and dictionary.end is not None:
        symbols[dictionary.begin], symbols[dictionary.end] = "", END_MARK
    return "".join(symbols[i] for i in ids.tolist())


def _read(project: Project, text: str) -> Excerpt | None:
    try:
        writer = Writer.load(project.folder / "models/charlm", threads=1)
    except UserError:
        return None
    *whole, cut = text.split(END_MARK)
    scores = [writer.score(document, predictions=True, ended=True) for document in whole]
    scores += [writer.score(cut, predictions=True)] if cut else []
    return _excerpt(scores, writer.dictionary.symbols) if any(one.text for one in scores) else None


def _excerpt(scores: Sequence[Score], symbols: Sequence[str]) -> Excerpt:
    predictions = np.concatenate([one.predictions for one in scores if one.predictions is not None])
    log_probs = np.concatenate([one.log_probs for one in scores]).astype(np.float64)
    bits = np.maximum(-log_probs / math.log(2), 0)
    order = np.argsort(-predictions, axis=1, kind="stable")[:, :RIVALS]
    shares = np.exp(np.take_along_axis(predictions, order, axis=1).astype(np.float64)) * 100
    likely = [
        [part for i, share in zip(ids, row, strict=True) for part in (sign(symbols[i]), round(share, 1))]
        for ids, row in zip(order.tolist(), shares.tolist(), strict=True)
    ]
    levels = np.minimum(np.rint(bits), TOP_LEVEL).astype(int).tolist()
    return Excerpt("".join(one.text for one in scores), [round(one, 2) for one in bits.tolist()], levels, likely)

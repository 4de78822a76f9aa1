"""Prepares the report's texts: generated samples, and the start of the eval text with the bits of each character.

If the eval text consists of documents with begin and end symbols, the model reads each document from its begin symbol,
and the page shows the end of a document as a line break.
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
from pipeline.reporting.project import Project, is_number, percent, same_text, visible, whole

# The length of the excerpt in characters: for a single project, and for several side by side.
SINGLE_LENGTH, SHARED_LENGTH = 3000, 1500
# The number of most likely characters that are shown at each position.
NUM_LIKELY = 4
# There is one level of shading per bit, up to this level, as in the playground.
TOP_LEVEL = 10


@dataclass(frozen=True)
class Excerpt:
    """A text with the bits, the level of shading and the most likely characters (in percent) of each character."""

    text: str
    bits: list[float]
    levels: list[int]
    likely: list[list[Any]]

    @property
    def bits_per_char(self) -> float:
        """The mean bits of a character."""
        return sum(self.bits) / len(self.bits)

    @property
    def perplexity(self) -> float:
        """2 to the power of `bits_per_char`."""
        return float(2**self.bits_per_char)

    @property
    def characters(self) -> list[tuple[str, int]]:
        """The characters, with symbols for those that cannot be printed, and their levels of shading."""
        shown = [char if char.isprintable() or char in "\n\t" else visible(char) for char in self.text]
        return list(zip(shown, self.levels, strict=True))

    def data(self) -> dict[str, Any]:
        """Return the data for the page's script: visible characters, bits, and the likeliest characters."""
        return {"signs": list(map(visible, self.text)), "bits": self.bits, "likely": self.likely}


def excerpts(projects: Sequence[Project]) -> list[Excerpt | None]:
    """Return an excerpt for each project, None if its model or its eval text is missing.

    Projects with the same eval text share one excerpt, so that their models can be compared character by character.
    """
    length = SINGLE_LENGTH if len(projects) == 1 else SHARED_LENGTH
    texts = [_beginning(project, length) for project in projects]
    if same_text(projects):  # one folder with the text is enough
        texts = [next(filter(None, texts), "")] * len(projects)
    return [_read(project, text) for project, text in zip(projects, texts, strict=True)]


def _beginning(project: Project, length: int) -> str:
    try:
        dictionary = Dictionary.load(project.folder / "data/split/dictionary.json")
        return _marked(dictionary, load_array(project.folder / "data/split/eval/ids.npy")[:length])
    except (UserError, IndexError):
        return ""


def _marked(dictionary: Dictionary, ids: Ids) -> str:
    """Return the text of `ids` (int, one per character) with an END_MARK at the end of each document."""
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
    order = np.argsort(-predictions, axis=1, kind="stable")[:, :NUM_LIKELY]
    shares = np.exp(np.take_along_axis(predictions, order, axis=1).astype(np.float64)) * 100
    likely = [
        [part for i, share in zip(ids, row, strict=True) for part in (visible(symbols[i]), round(share, 1))]
        for ids, row in zip(order.tolist(), shares.tolist(), strict=True)
    ]
    levels = np.minimum(np.rint(bits), TOP_LEVEL).astype(int).tolist()
    return Excerpt("".join(one.text for one in scores), [round(one, 2) for one in bits.tolist()], levels, likely)


@dataclass(frozen=True)
class Sample:
    """A generated sample: how it was sampled, its prompt and completion, and a line with its metrics."""

    mode: str
    how: str
    prompt: str
    completion: str
    figures: str


def samples(project: Project) -> list[Sample]:
    """Return the samples in the order of samples/samples.json: for each prompt the greedy one first."""
    found = project.json("samples/samples.json")
    return [_sample(one) for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _sample(one: dict[str, Any]) -> Sample:
    mode = str(one.get("mode", ""))
    how = "always the most likely character" if mode == "greedy" else f"temperature {one.get('temperature')}"
    if one.get("seed") is not None:
        how += f", seed {one['seed']}"
    figures = [
        text
        for key, text in (
            ("known_words", f"{percent(one.get('known_words'), 0)} of the words occur in the training text"),
            ("longest_repeat", f"longest repeat {whole(one.get('longest_repeat'))}"),
            ("copied", f"{percent(one.get('copied'), 0)} copied from the training text"),
        )
        if is_number(one.get(key))
    ]
    if one.get("finish_reason") == "stop":
        figures.append("ended by itself")
    return Sample(mode, how, str(one.get("prompt", "")), str(one.get("completion", "")), ", ".join(figures))

"""Text at the rim: prompts in, characters out as they come. Batch and server are built on `stream`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from pipeline.generation.engine import Engine
from pipeline.generation.sampling import Sampling, choose, uniform_at
from pipeline.model.saved import SavedModel
from pipeline.seeds import derive_seed

MAX_PROMPT_CHARS = 1_000_000
SHOWN_CHARACTERS = 10


@dataclass(frozen=True)
class Completion:
    """What was written after a prompt; `warnings` tell what the model could not read of it."""

    prompt: str
    completion: str
    finish_reason: Literal["length", "stop"]
    warnings: tuple[str, ...]

    @property
    def text(self) -> str:
        """The prompt and what was written after it."""
        return self.prompt + self.completion


@dataclass(frozen=True)
class Prompt:
    """A prompt as the model reads it: `ids` of the characters it knows, and warnings about the others."""

    ids: tuple[int, ...]
    warnings: tuple[str, ...]


class Writer:
    """Continues texts with a model."""

    def __init__(self, model: SavedModel) -> None:
        self.dictionary = model.dictionary
        self.engine = Engine(model)

    @classmethod
    def load(cls, folder: Path) -> "Writer":
        """Return a writer with the model in `folder`; UserError as SavedModel.load."""
        return cls(SavedModel.load(folder))

    def read_prompt(self, prompt: str) -> Prompt:
        """Return the ids of `prompt`; characters that the dictionary lacks are dropped with a warning.

        Of a prompt longer than MAX_PROMPT_CHARS the last ones are read.
        """
        warnings = []
        if len(prompt) > MAX_PROMPT_CHARS:
            warnings.append(f"only the last {MAX_PROMPT_CHARS} of {len(prompt)} characters were read")
            prompt = prompt[-MAX_PROMPT_CHARS:]
        ids = self.dictionary.encode(prompt)
        known = ids >= self.dictionary.first_id
        if not known.all():
            lacking = sorted({char for char, is_known in zip(prompt, known, strict=True) if not is_known})
            shown = ", ".join(repr(char) for char in lacking[:SHOWN_CHARACTERS])
            more = f" and {len(lacking) - SHOWN_CHARACTERS} others" if len(lacking) > SHOWN_CHARACTERS else ""
            dropped = int(np.count_nonzero(~known))
            warnings.append(f"dropped {dropped} characters that the model does not know: {shown}{more}")
        return Prompt(ids=tuple(ids[known].tolist()), warnings=tuple(warnings))

    def stream(self, prompt: str, sampling: Sampling) -> Iterator[str]:
        """Yield the characters that follow `prompt`, as they come.

        From an empty prompt, or one of unknown characters only, the text starts from the zero state; its first
        character is then drawn from what the network predicts after a newline, or after a space if it knows no
        newline. With stop strings, characters that may belong to one are held back until it is clear that they do not.
        """
        state = self.engine.read(self.read_prompt(prompt).ids or self._opening())
        held = ""
        for position in range(sampling.max_new_chars):
            token = choose(
                self.engine.logits(state),
                sampling,
                first_id=self.engine.first_id,
                uniform=uniform_at(sampling.seed, position),
            )
            char = self.dictionary.symbols[token]
            if not sampling.stop:
                yield char
            else:
                held += char
                if any(held.endswith(stop) for stop in sampling.stop):
                    kept = min(held.find(stop) for stop in sampling.stop if stop in held)
                    yield from held[:kept]
                    return
                keep = max(_overlap(held, stop) for stop in sampling.stop)
                yield from held[: len(held) - keep]
                held = held[len(held) - keep :]
            state = self.engine.step(token, state)
        yield from held

    def complete(self, prompt: str, sampling: Sampling) -> Completion:
        """Return the whole text that `stream` yields."""
        completion = "".join(self.stream(prompt, sampling))
        reason: Literal["length", "stop"] = "length" if len(completion) == sampling.max_new_chars else "stop"
        return Completion(
            prompt=prompt,
            completion=completion,
            finish_reason=reason,
            warnings=self.read_prompt(prompt).warnings,
        )

    def _opening(self) -> tuple[int, ...]:
        for char in "\n ":
            if char in self.dictionary.characters:
                return tuple(self.dictionary.encode(char).tolist())
        return ()


def sample_seed(seed: int, sample: int) -> int:
    """Return the seed of sample `sample` (from 0) of several asked for with one seed; the first has the seed itself."""
    return seed if sample == 0 else derive_seed(seed, "sample", sample)


def _overlap(text: str, stop: str) -> int:
    """Return how many of the last characters of `text` begin `stop`."""
    return next(n for n in range(min(len(text), len(stop) - 1), -1, -1) if text.endswith(stop[:n]))

"""Generates text: prompts in, characters out as they are written. Streams, batches and the server build on this.

If the dictionary has a begin and an end symbol, a text starts after the begin symbol and ends when the end symbol is
drawn.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.core.errors import UserError
from pipeline.dataset.dictionary import END_SIGN, Dictionary
from pipeline.generation.engine import Engine, State
from pipeline.generation.text_types import (
    Character,
    Chunk,
    Completion,
    FinishReason,
    Prompt,
    Score,
    StopFilter,
    TextInProgress,
)
from pipeline.model.saved import SavedModel
from pipeline.params.sampling import Precision, Sampling

MAX_PROMPT_CHARS = 1_000_000
SHOWN_CHARACTERS = 10
# A stream is written in steps: one character first, then more and more, up to this number of multiply-adds (about 10 ms
# of one core), but at most MOST_AT_ONCE characters.
PRODUCTS_AT_ONCE = 50_000_000
MOST_AT_ONCE = 128
# Texts written in one batch, and prompts whose states are held in memory at once.
BATCH = 64


def opened(dictionary: Dictionary, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return `ids` after the begin symbol; without one, no ids become a newline or a space, if known."""
    if dictionary.begin is not None:
        return np.concatenate([[dictionary.begin], ids]).astype(np.int64)
    if len(ids):
        return ids
    for char in "\n ":
        if char in dictionary.characters:
            return dictionary.encode(char)
    return ids


class Writer:
    """Continues texts with a model; `threads` and `precision` are those of Engine."""

    def __init__(self, model: SavedModel, *, threads: int = 0, precision: Precision = "fp32") -> None:
        self.dictionary = model.dictionary
        self.engine = Engine(model, threads=threads, precision=precision)
        self.at_once = max(4, min(MOST_AT_ONCE, PRODUCTS_AT_ONCE // self.engine.products))
        self.known = frozenset(self.dictionary.characters)
        self._codes = np.array([ord(symbol) for symbol in model.dictionary.symbols], dtype="<u4")

    @classmethod
    def load(cls, folder: Path, *, threads: int = 0, precision: Precision = "fp32") -> "Writer":
        """Return a writer with the model in `folder`; raises UserError as SavedModel.load does."""
        return cls(SavedModel.load(folder), threads=threads, precision=precision)

    def warm_up(self) -> None:
        """Load the kernels now, compiling them if necessary (seconds), so that the first request does not wait."""
        self.generate(["", ""], Sampling(max_new_chars=2))

    def encode_prompt(self, prompt: str) -> Prompt:
        """Return the ids of `prompt`; characters that the dictionary lacks are dropped with a warning.

        Only the last MAX_PROMPT_CHARS characters of a longer prompt are read.
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
        return Prompt(ids=ids[known], warnings=tuple(warnings))

    def check(self, sampling: Sampling) -> None:
        """Check that the model has the characters that `sampling` names; UserError if it does not."""
        self._allowed(sampling.allowed)
        self._bias(sampling.logit_bias)

    def start_text(
        self, ids: npt.NDArray[np.int64], sampling: Sampling, *, state: State | None = None
    ) -> TextInProgress:
        """Return a text that continues `ids` and has nothing written yet; `state` is the state after `ids`, if known.

        Without `state`, the network reads the begin symbol and `ids` from the zero state. If there is no begin symbol
        and no id, it reads a newline first, or a space if the model knows no newline.
        """
        if state is None:
            state = self.engine.read(self._opened(ids))
        allowed, bias = self._allowed(sampling.allowed), self._bias(sampling.logit_bias)
        row = self.engine.row(state, sampling, before=ids, allowed=allowed, bias=bias)
        finish_reason: FinishReason | None = None if sampling.max_new_chars else "length"
        return TextInProgress(row, sampling.max_new_chars, StopFilter(sampling.stop), finish_reason)

    def write(self, texts: Sequence[TextInProgress], steps: int, *, predictions: bool = False) -> list[Chunk]:
        """Continue each of `texts` by at most `steps` characters; returns the new final characters of each.

        Characters that may belong to a stop string are held back until that is decided.
        """
        steps = min(steps, max(text.left for text in texts))
        written = self.engine.write([text.row for text in texts], steps, predictions=predictions)
        chunks = [Chunk(self._decode(one.ids), one.log_probs, one.predictions) for one in written]
        ends = [self._end_in(one.ids) for one in written]
        return [
            text.take(chunk.slice(0, end), ended=end < len(chunk.text))
            for text, chunk, end in zip(texts, chunks, ends, strict=True)
        ]

    def read(self, text: str, state: State | None = None) -> State:
        """Return the state after `text`, from `state` (None: a text's start). It can be continued many times."""
        ids = self.encode_prompt(text).ids
        return self.engine.read(self._opened(ids) if state is None else ids, state)

    def stream(
        self, prompt: str, sampling: Sampling, *, state: State | None = None, alternatives: int = 0
    ) -> Iterator[Character]:
        """Yield the characters that follow `prompt` as they are written, each with the `alternatives` likeliest ones.

        If `state` is given, `prompt` continues the text of that state (see `read`). Characters that may belong to a
        stop string are held back until that is decided.
        """
        yield from self.stream_text(
            self.start_text(self.encode_prompt(prompt).ids, sampling, state=state), alternatives
        )

    def stream_text(self, text: TextInProgress, alternatives: int = 0) -> Iterator[Character]:
        """Yield the characters of `text` as `stream` does; then `text.finish_reason` is set."""
        at_once = 1
        while text.finish_reason is None:
            yield from self.characters(self.write([text], at_once, predictions=alternatives > 0)[0], alternatives)
            at_once = min(2 * at_once, self.at_once)

    def complete(self, prompt: str, sampling: Sampling) -> Completion:
        """Return the whole text that `stream` yields."""
        return self.generate([prompt], sampling)[0]

    def generate(self, prompts: Sequence[str], sampling: Sampling | Sequence[Sampling]) -> list[Completion]:
        """Complete many prompts in batches; each completion is the same as if it were generated alone.

        `sampling` is one for all prompts, or one for each. A prompt that occurs several times is read once.
        """
        samplings = [sampling] * len(prompts) if isinstance(sampling, Sampling) else list(sampling)
        done: list[Completion] = []
        for at in range(0, len(prompts), BATCH):
            done += self._generate(prompts[at : at + BATCH], samplings[at : at + BATCH])
        return done

    def score(self, text: str, *, predictions: bool = False, ended: bool = False) -> Score:
        """Return the log-probability of each character of `text` given those before it; unknown ones are left out.

        The first is predicted from the state that a text without a prompt starts from. With `ended`, the end symbol
        after the text is scored too and shown as a line break, if the model has one.
        """
        ids = self.dictionary.encode(text)
        known = ids[ids >= self.dictionary.first_id]
        shown, dropped = self._decode(known), len(ids) - len(known)
        if ended and self.dictionary.end is not None:
            known, shown = np.append(known, self.dictionary.end), f"{shown}\n"
        start = self.engine.read(self._opened(known[:0]))
        every = np.empty((len(known), len(self.dictionary)), dtype=np.float32) if predictions else None
        log_probs, _ = self.engine.score(known, start, predictions=every)
        return Score(shown, log_probs, dropped=dropped, predictions=every)

    def characters(self, chunk: Chunk, alternatives: int = 0) -> list[Character]:
        """Return the characters of `chunk`, each with the `alternatives` likeliest ones (if it has predictions)."""
        if chunk.predictions is None or not alternatives:
            return list(map(Character, chunk.text, chunk.log_probs.tolist()))
        order = np.argsort(-chunk.predictions, axis=1, kind="stable")[:, :alternatives]
        likely = np.take_along_axis(chunk.predictions, order, axis=1)
        symbols = self.dictionary.symbols
        rivals = (
            tuple((symbols[i], score) for i, score in zip(ids, scores, strict=True))
            for ids, scores in zip(order.tolist(), likely.tolist(), strict=True)
        )
        return list(map(Character, chunk.text, chunk.log_probs.tolist(), rivals))

    def _generate(self, prompts: Sequence[str], samplings: Sequence[Sampling]) -> list[Completion]:
        # Each distinct prompt is read once; all texts that continue it start from its state.
        read = {prompt: self.encode_prompt(prompt) for prompt in dict.fromkeys(prompts)}
        states = {prompt: self.engine.read(self._opened(one.ids)) for prompt, one in read.items()}
        texts = [
            self.start_text(read[prompt].ids, sampling, state=states[prompt])
            for prompt, sampling in zip(prompts, samplings, strict=True)
        ]
        # Texts that have ended leave the batch.
        chunks = [[Chunk.empty()] for _ in texts]
        while active := [at for at, text in enumerate(texts) if text.finish_reason is None]:
            for at, chunk in zip(active, self.write([texts[at] for at in active], MOST_AT_ONCE), strict=True):
                chunks[at].append(chunk)
        return [
            Completion(prompt, whole.text, whole.log_probs, text.finish_reason or "length", read[prompt].warnings)
            for prompt, text, whole in zip(prompts, texts, map(Chunk.concatenate, chunks), strict=True)
        ]

    def _allowed(self, characters: str | None) -> npt.NDArray[np.bool_] | None:
        """Return which ids may be written, bool [vocab]; UserError if the dictionary has none of `characters`."""
        if characters is None:
            return None
        ids = self.dictionary.encode(characters)
        ids = ids[ids >= self.dictionary.first_id]
        if not len(ids):
            raise UserError(f"allowed: the model knows none of the characters {characters[:SHOWN_CHARACTERS]!r}")
        allowed = np.zeros(len(self.dictionary), dtype=np.bool_)
        allowed[ids] = True
        if self.dictionary.end is not None:
            allowed[self.dictionary.end] = True
        return allowed

    def _bias(self, biases: Sequence[tuple[str, float]]) -> npt.NDArray[np.float32] | None:
        """Return what is added to each id's logit; UserError if the model lacks one of the characters."""
        if not biases:
            return None
        bias = np.zeros(len(self.dictionary), dtype=np.float32)
        for char, value in biases:
            bias[self._biased_id(char)] = value
        return bias

    def _biased_id(self, char: str) -> int:
        if char in self.known:
            return int(self.dictionary.encode(char)[0])
        if char == END_SIGN and self.dictionary.end is not None:
            return self.dictionary.end
        raise UserError(f"logit_bias: found {char!r}, allowed are single characters that the model knows")

    def _opened(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return opened(self.dictionary, ids)

    def _end_in(self, ids: npt.NDArray[np.int32]) -> int:
        """Return the number of ids before the first end symbol; all if there is none."""
        found = np.flatnonzero(ids == self.dictionary.end) if self.dictionary.end is not None else ids[:0]
        return int(found[0]) if len(found) else len(ids)

    def _decode(self, ids: npt.NDArray[np.integer[Any]]) -> str:
        return str(self._codes[ids].tobytes(), "utf-32-le", "surrogatepass")

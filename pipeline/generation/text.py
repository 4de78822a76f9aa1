"""Text at the rim: prompts in, characters out as they come. Streams, batches and the server are built on `Draft`.

With a dictionary that has a begin and an end symbol a text starts after the begin symbol, and is over when the end
symbol is drawn.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.core.errors import UserError
from pipeline.dataset.dictionary import END_SIGN
from pipeline.generation.engine import Engine, State
from pipeline.generation.sampling import Sampling
from pipeline.generation.text_types import Character, Completion, Draft, FinishReason, Piece, Prompt, Score, StopFilter
from pipeline.model.saved import SavedModel
from pipeline.params.sampling import Precision

MAX_PROMPT_CHARS = 1_000_000
SHOWN_CHARACTERS = 10
# A text is written in steps of some characters, the first one alone, then more and more: as many as this many products
# make, about 10 ms of one core, but at most MOST_AT_ONCE.
PRODUCTS_AT_ONCE = 50_000_000
MOST_AT_ONCE = 128
# Texts written side by side, and prompts whose states are kept at once.
BATCH = 64


class Writer:
    """Continues texts with a model; `threads` and `precision` as Engine has them."""

    def __init__(self, model: SavedModel, *, threads: int = 0, precision: Precision = "fp32") -> None:
        self.dictionary = model.dictionary
        self.engine = Engine(model, threads=threads, precision=precision)
        self.at_once = max(4, min(MOST_AT_ONCE, PRODUCTS_AT_ONCE // self.engine.products))
        self.known = frozenset(self.dictionary.characters)
        self._codes = np.array([ord(symbol) for symbol in model.dictionary.symbols], dtype="<u4")

    @classmethod
    def load(cls, folder: Path, *, threads: int = 0, precision: Precision = "fp32") -> "Writer":
        """Return a writer with the model in `folder`; UserError as SavedModel.load."""
        return cls(SavedModel.load(folder), threads=threads, precision=precision)

    def warm_up(self) -> None:
        """Load the kernels, compiled anew if this machine has not seen them: seconds that no one then waits for."""
        self.generate(["", ""], Sampling(max_new_chars=2))

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
        return Prompt(ids=ids[known], warnings=tuple(warnings))

    def check(self, sampling: Sampling) -> None:
        """Return if the model has the characters that `sampling` names; UserError if it lacks them."""
        self._allowed(sampling.allowed)
        self._bias(sampling.logit_bias)

    def draft(self, ids: npt.NDArray[np.int64], sampling: Sampling, *, state: State | None = None) -> Draft:
        """Return a text that goes on after `ids` and has nothing written yet; `state` is the one after them, if known.

        Without a state the text starts from the zero state: after the begin symbol, then `ids`. Where there is no begin
        symbol, a text without ids begins as one after a newline, or after a space if the model knows no newline.
        """
        if state is None:
            state = self.engine.read(self._opened(ids))
        allowed, bias = self._allowed(sampling.allowed), self._bias(sampling.logit_bias)
        row = self.engine.row(state, sampling, before=ids, allowed=allowed, bias=bias)
        finish_reason: FinishReason | None = None if sampling.max_new_chars else "length"
        return Draft(row, sampling.max_new_chars, StopFilter(sampling.stop), finish_reason)

    def write(self, drafts: Sequence[Draft], steps: int, *, predictions: bool = False) -> list[Piece]:
        """Move all `drafts` on, `steps` characters at most each; returns what is sure of each one's text."""
        steps = min(steps, max(draft.left for draft in drafts))
        written = self.engine.write([draft.row for draft in drafts], steps, predictions=predictions)
        pieces = [Piece(self._decode(one.ids), one.log_probs, one.predictions) for one in written]
        ends = [self._end_in(one.ids) for one in written]
        return [
            draft.take(piece.part(0, end), ended=end < len(piece.text))
            for draft, piece, end in zip(drafts, pieces, ends, strict=True)
        ]

    def read(self, text: str, state: State | None = None) -> State:
        """Return the state after `text`, from `state` (None: a text's start); it can be gone on from many times."""
        ids = self.read_prompt(text).ids
        return self.engine.read(self._opened(ids) if state is None else ids, state)

    def stream(
        self, prompt: str, sampling: Sampling, *, state: State | None = None, alternatives: int = 0
    ) -> Iterator[Character]:
        """Yield the characters that follow `prompt`, as they come, each with its `alternatives` most likely rivals.

        `state` is the one after the prompt, if it is known already (`read`). With stop strings, characters that may
        belong to one are held back until it is clear that they do not.
        """
        yield from self.follow(self.draft(self.read_prompt(prompt).ids, sampling, state=state), alternatives)

    def follow(self, draft: Draft, alternatives: int = 0) -> Iterator[Character]:
        """Yield the characters of `draft` as `stream` does; it tells afterwards why the text is over."""
        at_once = 1
        while draft.finish_reason is None:
            yield from self.characters(self.write([draft], at_once, predictions=alternatives > 0)[0], alternatives)
            at_once = min(2 * at_once, self.at_once)

    def complete(self, prompt: str, sampling: Sampling) -> Completion:
        """Return the whole text that `stream` yields."""
        return self.generate([prompt], sampling)[0]

    def generate(self, prompts: Sequence[str], sampling: Sampling | Sequence[Sampling]) -> list[Completion]:
        """Complete many prompts side by side, each as if it were alone.

        One `sampling` for all, or one for each: a prompt's text depends on its own seed only. A prompt that occurs
        several times is read once.
        """
        samplings = [sampling] * len(prompts) if isinstance(sampling, Sampling) else list(sampling)
        done: list[Completion] = []
        for at in range(0, len(prompts), BATCH):
            done += self._generate(prompts[at : at + BATCH], samplings[at : at + BATCH])
        return done

    def score(self, text: str, *, predictions: bool = False, ended: bool = False) -> Score:
        """Return how likely each character of `text` was, after those before it; unknown ones are left out.

        The first is predicted from the state that a text without a prompt starts from. With `ended` the end symbol
        after the text is scored too, and stands as a line break in the score's text; a model without one leaves it out.
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

    def characters(self, piece: Piece, alternatives: int = 0) -> list[Character]:
        """Return the characters of `piece`, each with its `alternatives` most likely rivals (if it has predictions)."""
        if piece.predictions is None or not alternatives:
            return list(map(Character, piece.text, piece.log_probs.tolist()))
        order = np.argsort(-piece.predictions, axis=1, kind="stable")[:, :alternatives]
        likely = np.take_along_axis(piece.predictions, order, axis=1)
        symbols = self.dictionary.symbols
        rivals = (
            tuple((symbols[i], score) for i, score in zip(ids, scores, strict=True))
            for ids, scores in zip(order.tolist(), likely.tolist(), strict=True)
        )
        return list(map(Character, piece.text, piece.log_probs.tolist(), rivals))

    def _generate(self, prompts: Sequence[str], samplings: Sequence[Sampling]) -> list[Completion]:
        read = {prompt: self.read_prompt(prompt) for prompt in dict.fromkeys(prompts)}
        states = {prompt: self.engine.read(self._opened(one.ids)) for prompt, one in read.items()}
        drafts = [
            self.draft(read[prompt].ids, sampling, state=states[prompt])
            for prompt, sampling in zip(prompts, samplings, strict=True)
        ]
        pieces = [[Piece.nothing()] for _ in drafts]
        while waiting := [at for at, draft in enumerate(drafts) if draft.finish_reason is None]:
            for at, piece in zip(waiting, self.write([drafts[at] for at in waiting], MOST_AT_ONCE), strict=True):
                pieces[at].append(piece)
        return [
            Completion(prompt, whole.text, whole.log_probs, draft.finish_reason or "length", read[prompt].warnings)
            for prompt, draft, whole in zip(prompts, drafts, map(Piece.of, pieces), strict=True)
        ]

    def _allowed(self, characters: str | None) -> npt.NDArray[np.bool_] | None:
        """Return which ids may be written, the end symbol's with them; UserError if the dictionary has none of them."""
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
        """Return `ids` with what the network reads before them: the begin symbol, else what a text begins after."""
        if self.dictionary.begin is not None:
            return np.concatenate([[self.dictionary.begin], ids]).astype(np.int64)
        if len(ids):
            return ids
        for char in "\n ":
            if char in self.dictionary.characters:
                return self.dictionary.encode(char)
        return ids

    def _end_in(self, ids: npt.NDArray[np.int32]) -> int:
        """Return how many of `ids` stand before the first end symbol: all, if there is none."""
        found = np.flatnonzero(ids == self.dictionary.end) if self.dictionary.end is not None else ids[:0]
        return int(found[0]) if len(found) else len(ids)

    def _decode(self, ids: npt.NDArray[np.integer[Any]]) -> str:
        return str(self._codes[ids].tobytes(), "utf-32-le", "surrogatepass")

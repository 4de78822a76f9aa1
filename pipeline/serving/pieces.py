"""Parts of completions and echoes, reduced to what a request wants of them, and their JSON, built in small parts.

The threads that read prompts and generate texts make pieces, so that predictions of all characters are never retained.
"""

import json
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.generation.engine import READ_AT_ONCE, State
from pipeline.generation.text import Writer, opened
from pipeline.generation.text_types import Chunk, FinishReason, Prompt

dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

# Characters of a text, and characters with log-probabilities, whose JSON is built at once: some milliseconds.
TEXT_AT_ONCE, SCORED_AT_ONCE = 65_536, 128
# Bytes of a response that are built at once.
BYTES_AT_ONCE = 65_536
# Multiply-adds that a thread may do for one text or prompt while others wait: some milliseconds.
PRODUCTS_AT_ONCE = 200_000_000
# Some megabytes for the largest networks.
MOST_READ_PROMPTS = 128


class Scores(NamedTuple):
    """`log_probs` float32 [n] of n characters, NaN for those that the model does not know.

    `likely` int32 [n, k] are the ids of the k likeliest symbols, `likely_log_probs` float32 [n, k] belong to them.
    """

    log_probs: npt.NDArray[np.float32]
    likely: npt.NDArray[np.int32]
    likely_log_probs: npt.NDArray[np.float32]

    @classmethod
    def of(cls, chunk: Chunk, alternatives: int) -> "Scores":
        """Return those of `chunk`, with as many `alternatives` of its predictions."""
        if not alternatives or chunk.predictions is None:
            nothing = np.empty((len(chunk.text), 0))
            return cls(chunk.log_probs, nothing.astype(np.int32), nothing.astype(np.float32))
        likely = np.argsort(-chunk.predictions, axis=1, kind="stable")[:, :alternatives].astype(np.int32)
        return cls(chunk.log_probs, likely, np.take_along_axis(chunk.predictions, likely, axis=1))

    @classmethod
    def join(cls, parts: "Sequence[Scores]") -> "Scores":
        """Return `parts` as one."""
        log_probs, likely, likely_log_probs = zip(*parts, strict=True)
        return cls(np.concatenate(log_probs), np.concatenate(likely), np.concatenate(likely_log_probs))

    def cut(self, start: int, end: int) -> "Scores":
        """Return those of the characters from `start` to `end`."""
        return Scores(self.log_probs[start:end], self.likely[start:end], self.likely_log_probs[start:end])

    def among(self, known: npt.NDArray[np.bool_]) -> "Scores":
        """Return the scores of more characters: those that are `known`, bool [n], have these; the rest are unknown."""
        log_probs = np.full(len(known), np.nan, dtype=np.float32)
        likely = np.zeros((len(known), self.likely.shape[1]), dtype=np.int32)
        likely_log_probs = likely.astype(np.float32)
        log_probs[known], likely[known], likely_log_probs[known] = self
        return Scores(log_probs, likely, likely_log_probs)


class Piece(NamedTuple):
    """Consecutive characters of a completion or an echo; `scores` are None unless requested."""

    text: str
    scores: Scores | None = None

    def cut(self) -> "Iterator[Piece]":
        """Yield the piece in parts whose JSON may be built at once; at least one."""
        size = TEXT_AT_ONCE if self.scores is None else SCORED_AT_ONCE
        for at in range(0, max(1, len(self.text)), size):
            scores = None if self.scores is None else self.scores.cut(at, at + size)
            yield Piece(self.text[at : at + size], scores)


def piece_of(chunk: Chunk, alternatives: int | None) -> Piece:
    """Return what a request for `alternatives` (None: no log-probabilities) wants of `chunk`."""
    return Piece(chunk.text, None if alternatives is None else Scores.of(chunk, alternatives))


def join(pieces: Sequence[Piece]) -> Piece:
    """Return `pieces`, of one request, as one."""
    if len(pieces) == 1:
        return pieces[0]
    scores = [piece.scores for piece in pieces if piece.scores is not None]
    widest = max((one.likely.shape[1] for one in scores), default=0)
    # The piece without characters has no alternatives either.
    scores = [one for one in scores if one.likely.shape[1] == widest]
    return Piece("".join(piece.text for piece in pieces), Scores.join(scores) if scores else None)


def logprobs_of(piece: Piece, symbols: Sequence[str], offset: int) -> dict[str, list[Any]] | None:
    """Return OpenAI's `logprobs` of a piece that begins at `offset` in its text."""
    if piece.scores is None:
        return None
    log_probs, likely, likely_log_probs = piece.scores
    known = (~np.isnan(log_probs)).tolist()
    rows = zip(likely.tolist(), likely_log_probs.tolist(), known, strict=True)
    return {
        "tokens": list(piece.text),
        "token_logprobs": [own if is_known else None for own, is_known in zip(log_probs.tolist(), known, strict=True)],
        "top_logprobs": [
            {symbols[one]: score for one, score in zip(ids, scores, strict=True)} if is_known else None
            for ids, scores, is_known in rows
        ],
        "text_offset": list(range(offset, offset + len(piece.text))),
    }


@dataclass(frozen=True)
class Choice:
    """A whole completion, after its prompt's echo if that was requested."""

    pieces: list[Piece]
    finish_reason: FinishReason | None

    def json(self, number: int, symbols: Sequence[str]) -> Iterator[str]:
        """Yield the JSON of the choice, part by part."""
        parts = [part for piece in self.pieces for part in piece.cut() if part.text]
        yield f'{{"index":{number},"text":"'
        yield from (dumps(part.text)[1:-1] for part in parts)
        yield '","logprobs":'
        if self.pieces[0].scores is None:
            yield "null"
        else:
            yield from self._logprobs(parts, symbols)
        yield f',"finish_reason":"{self.finish_reason}"}}'

    def _logprobs(self, parts: Sequence[Piece], symbols: Sequence[str]) -> Iterator[str]:
        for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
            yield f'{"{" if name == "tokens" else ","}"{name}":['
            offset = 0
            for part in parts:
                yield ("," if offset else "") + dumps((logprobs_of(part, symbols, offset) or {})[name])[1:-1]
                offset += len(part.text)
            yield "]"
        yield "}"


def body_of(
    head: dict[str, Any], choices: Sequence[Choice], symbols: Sequence[str], tail: dict[str, Any]
) -> Iterator[bytes]:
    """Yield the body of a whole response in parts of some ten kilobytes: `head`, the choices, `tail`."""
    listed = (chain(["," if number else ""], choice.json(number, symbols)) for number, choice in enumerate(choices))
    parts = chain([dumps(head)[:-1], ',"choices":['], chain.from_iterable(listed), ["],", dumps(tail)[1:]])
    return _grouped(parts, BYTES_AT_ONCE)


def _grouped(parts: Iterable[str], size: int) -> Iterator[bytes]:
    group, length = [], 0
    for part in parts:
        group.append(part)
        length += len(part)
        if length >= size:
            yield "".join(group).encode()
            group, length = [], 0
    yield "".join(group).encode()


class ReadPrompts:
    """The last short prompts that were read by one model, with the state after each: reading takes as long as writing.

    Used by several threads.
    """

    def __init__(self) -> None:
        self._read: OrderedDict[str, tuple[Prompt, State]] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, text: str) -> tuple[Prompt, State] | None:
        """Return the ids of the prompt `text`, and the state after it, if they are known."""
        with self._lock:
            found = self._read.get(text)
            if found is not None:
                self._read.move_to_end(text)
            return found

    def add(self, text: str, prompt: Prompt, state: State) -> None:
        """Remember a prompt, instead of the one that was not found for the longest time."""
        with self._lock:
            self._read[text] = prompt, state
            if len(self._read) > MOST_READ_PROMPTS:
                self._read.popitem(last=False)


@dataclass(eq=False)
class PromptState:
    """A prompt. If it is long, one thread reads it in slices, so that others are read in between. Its samples share it.

    `ids`, int64, are its known characters; `warnings` are about the others. `state` is the model's state after those
    that were read. If `echoes`, it is scored too, and `echo` gets its pieces, with the requested `alternatives`.
    """

    writer: Writer
    text: str
    read_before: ReadPrompts
    alternatives: int | None
    echoes: bool
    is_continued: bool
    echo: list[Piece] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin before the first character."""
        self._prompt, self.state = self.read_before.find(self.text) or (
            self.writer.encode_prompt(self.text),
            self.writer.engine.start(),
        )
        self.ids, self.warnings = self._prompt.ids, self._prompt.warnings
        is_read = self.state is not self.writer.engine.start() or not self.is_continued
        self._opened = self.ids[:0] if is_read else opened(self.writer.dictionary, self.ids)
        self._read = 0
        self._scored = 0 if self.echoes else len(self.text)
        self._scoring = self.writer.engine.start()
        if self.echoes and self.alternatives is None:  # nothing to score
            self.echo, self._scored = [Piece(self.text)], len(self.text)
        self._lock = threading.Lock()
        self.is_short = self.products <= PRODUCTS_AT_ONCE

    @property
    def products(self) -> int:
        """The multiply-adds that reading and scoring the rest takes."""
        return (len(self._opened) - self._read + len(self.text) - self._scored) * self.writer.engine.products

    def finish(self) -> None:
        """Read what was not yet read; several threads may call this."""
        with self._lock:
            is_new = len(self._opened) > self._read
            while not self.advance():
                pass
            if is_new and self.is_short and len(self.text) <= READ_AT_ONCE:
                self.read_before.add(self.text, self._prompt, self.state)

    def advance(self) -> bool:
        """Read or score the next slice; returns whether that was the last one."""
        engine = self.writer.engine
        if self._read < len(self._opened):
            some = self._opened[self._read : self._read + READ_AT_ONCE]
            self.state = engine.read(some, self.state)
            self._read += len(some)
        elif self._scored < len(self.text):
            self._score(self.text[self._scored : self._scored + READ_AT_ONCE])
        return self._read == len(self._opened) and self._scored == len(self.text)

    def _score(self, text: str) -> None:
        """Score the next slice of the prompt, as Writer.score does for the whole of it."""
        writer, wanted = self.writer, self.alternatives or 0
        if not self._scored:
            self._scoring = writer.engine.read(opened(writer.dictionary, self.ids[:0]))
        ids = writer.dictionary.encode(text)
        known = ids >= writer.dictionary.first_id
        count = int(np.count_nonzero(known))
        every = np.empty((count, len(writer.dictionary)), dtype=np.float32) if wanted else None
        log_probs, self._scoring = writer.engine.score(ids[known], self._scoring, predictions=every)
        scores = Scores.of(Chunk("?" * count, log_probs, every), wanted)
        self.echo.append(Piece(text, scores.among(known)))
        self._scored += len(text)

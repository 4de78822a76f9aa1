"""The engine: ids in, ids and log-probabilities out. Knows nothing of text, and needs no torch.

Its inner loops are compiled (`kernels`); here stands what they work on. What a text becomes depends on the text and its
own rule only: every sum runs in one order, whatever else is computed beside it and on however many threads.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.core.threads import available_cores
from pipeline.generation.kernels.drawing import RULE, log_probs
from pipeline.generation.kernels.loops import project, read, write
from pipeline.generation.kernels.packing import aligned, pack
from pipeline.generation.sampling import Sampling
from pipeline.model.saved import SavedModel
from pipeline.params.sampling import Precision

Floats = npt.NDArray[np.float32]
Tokens = npt.NDArray[np.integer[Any]] | Sequence[int]

# Positions of a prompt that are read in one product of matrices: bounds the memory that a long one takes.
READ_AT_ONCE = 512
# Fewer texts than this are not worth a thread of their own.
ROWS_PER_THREAD = 8


@dataclass(frozen=True)
class State:
    """What the network keeps of a text: h and c, float32 [layers, hidden]. Never changed, so that it can be forked."""

    h: Floats
    c: Floats


@dataclass
class Row:
    """One text in the making: where it is, and how it goes on. `Engine.write` moves it.

    `allowed` is bool [vocab]; `bias` float32 [vocab] is added to the logits; `counts` int32 [vocab] says how often each
    id was written; `recent` int32 the last ids that a repetition penalty looks at, -1 for none.
    """

    state: State
    rule: npt.NDArray[np.void]
    allowed: npt.NDArray[np.bool_]
    bias: Floats
    counts: npt.NDArray[np.int32]
    recent: npt.NDArray[np.int32]


@dataclass(frozen=True)
class Written:
    """What was written of one text: ids int32 [steps], the logarithm of each one's probability float32 [steps].

    The probabilities are the network's own, whatever the sampling. `predictions` float32 [steps, vocab] are the
    logarithms of all of them, None unless asked for.
    """

    ids: npt.NDArray[np.int32]
    log_probs: Floats
    predictions: Floats | None


def rule_of(sampling: Sampling) -> npt.NDArray[np.void]:
    """Return `sampling` as the kernels read it, RULE [1], for a text of which nothing is written yet."""
    rule = np.zeros(1, dtype=RULE)
    for name in RULE.names or ():
        rule[name] = 0 if name == "position" else getattr(sampling, name)
    return rule


class Engine:
    """Steps a network over ids; holds weights only, so one engine serves any number of texts at once.

    `threads` (0: all cores) share a batch of texts; one text is written by one thread. `precision` is that of the
    matrices: with bf16 (rounded once, sums stay float32) half the bytes are read per character.
    """

    def __init__(self, model: SavedModel, *, threads: int = 0, precision: Precision = "fp32") -> None:
        self.config = model.config
        self.vocab_size = model.config.vocab_size
        self.threads = threads or available_cores()
        self._weights = pack(model, precision)
        # Multiply-adds per character
        self.products = sum(value.size for value in (self._weights.inputs, self._weights.hidden, self._weights.output))
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="engine")
        self._writable = np.arange(self.vocab_size) >= model.dictionary.first_id
        if model.dictionary.end is not None:
            self._writable[model.dictionary.end] = True
        zeros = np.zeros((model.config.num_layers, model.config.num_hidden), dtype=np.float32)
        self._start = State(h=zeros, c=zeros)
        self._no_bias = np.zeros(self.vocab_size, dtype=np.float32)

    def start(self) -> State:
        """Return the start state: zeros."""
        return self._start

    def read(self, ids: Tokens, state: State | None = None) -> State:
        """Return the state after reading `ids` from `state` (default: the start state)."""
        return self._read(np.asarray(ids, dtype=np.int64), state or self._start)

    def score(self, ids: Tokens, state: State, *, predictions: Floats | None = None) -> tuple[Floats, State]:
        """Return the logarithm of each id's probability, float32 [len(ids)], and the state after the last.

        Each id is predicted from what stands before it, the first from `state`. `predictions` float32
        [len(ids), vocab], if given, gets the logarithms of all probabilities.
        """
        known = np.asarray(ids, dtype=np.int64)
        scores = np.empty(len(known), dtype=np.float32)
        after = self._read(known, state, scores, predictions)
        return scores, after

    def logits(self, state: State) -> Floats:
        """Return the logits of the next id, float32 [vocab]."""
        return self._logits(state.h[-1:])[0, : self.vocab_size].copy()

    def predict(self, state: State) -> Floats:
        """Return the logarithms of the next id's probabilities, float32 [vocab]."""
        logits = self._logits(state.h[-1:])
        log_probs(logits, self.vocab_size)
        return logits[0, : self.vocab_size].copy()

    def row(
        self,
        state: State,
        sampling: Sampling,
        *,
        before: Tokens = (),
        allowed: npt.NDArray[np.bool_] | None = None,
        bias: Floats | None = None,
    ) -> Row:
        """Return a text at `state` that goes on as `sampling` says.

        `before` are the ids that a repetition penalty looks back at, `allowed` those that may be written (None: all
        characters, and the end symbol), `bias` is added to the logits (None: nothing).
        """
        window = sampling.repetition_window if sampling.repetition_penalty != 1 else 0
        recent = np.full(window, -1, dtype=np.int32)
        if window and len(before):
            last = np.asarray(before[-window:], dtype=np.int32)
            recent[-len(last) :] = last
        return Row(
            state=state,
            rule=rule_of(sampling),
            allowed=self._writable if allowed is None else allowed,
            bias=self._no_bias if bias is None else bias,
            counts=np.zeros(self.vocab_size, dtype=np.int32),
            recent=recent,
        )

    def write(self, rows: Sequence[Row], steps: int, *, predictions: bool = False) -> list[Written]:
        """Continue each of `rows` by `steps` ids; the rows are moved on."""
        size = max(ROWS_PER_THREAD, -(-len(rows) // self.threads))
        blocks = [rows[at : at + size] for at in range(0, len(rows), size)]
        if len(blocks) == 1:
            return self._write(rows, steps, predictions)
        done = self._pool.map(lambda block: self._write(block, steps, predictions), blocks)
        return [written for block in done for written in block]

    def _write(self, rows: Sequence[Row], steps: int, predictions: bool) -> list[Written]:  # noqa: FBT001
        count, vocab = len(rows), self.vocab_size
        before = max(len(row.recent) for row in rows)
        history = np.full((count, before + steps), -1, dtype=np.int32)
        h, c = (aligned((self.config.num_layers, count, self.config.num_hidden)) for _ in range(2))
        for at, row in enumerate(rows):
            history[at, before - len(row.recent) : before] = row.recent
            h[:, at], c[:, at] = row.state.h, row.state.c
        rules = np.concatenate([row.rule for row in rows])
        allowed = np.stack([row.allowed for row in rows])
        bias = np.stack([row.bias for row in rows])
        counts = np.stack([row.counts for row in rows])
        scores = np.empty((count, steps), dtype=np.float32)
        all_scores = np.empty((count if predictions else 0, steps, vocab), dtype=np.float32)
        write(self._weights, rules, allowed, bias, counts, history, h, c, scores, all_scores)
        for at, row in enumerate(rows):
            row.state = State(h=h[:, at], c=c[:, at])
            row.rule = rules[at : at + 1]
            row.counts = counts[at]
            row.recent = history[at, history.shape[1] - len(row.recent) :]
        return [
            Written(ids=history[at, before:], log_probs=scores[at], predictions=all_scores[at] if predictions else None)
            for at in range(count)
        ]

    def _read(
        self,
        ids: npt.NDArray[np.int64],
        state: State,
        scores: Floats | None = None,
        predictions: Floats | None = None,
    ) -> State:
        """Return the state after `ids`; sets `scores` and `predictions`, if given, as `score` says."""
        h, c = aligned(state.h.shape), aligned(state.c.shape)
        h[:], c[:] = state.h, state.c
        last = h[-1:].copy()
        for start in range(0, len(ids), READ_AT_ONCE):
            some = ids[start : start + READ_AT_ONCE]
            projected = aligned((len(some), self._weights.table.shape[1]))
            outputs = aligned((len(some), h.shape[1]))
            read(self._weights, some, h, c, projected, outputs)
            if scores is not None:
                before = np.concatenate([last, outputs[:-1]])
                logits = self._logits(before)
                log_probs(logits, self.vocab_size)
                scores[start : start + len(some)] = logits[np.arange(len(some)), some]
                if predictions is not None:
                    predictions[start : start + len(some)] = logits[:, : self.vocab_size]
            last = outputs[-1:]
        return State(h=h, c=c)

    def _logits(self, outputs: Floats) -> Floats:
        logits = aligned((len(outputs), len(self._weights.output_bias)))
        project(self._weights, np.ascontiguousarray(outputs), logits)
        return logits

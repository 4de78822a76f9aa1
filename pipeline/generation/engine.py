"""Runs the network over token ids: ids in, ids and log-probabilities out. Knows nothing of text; needs no torch.

The inner loops are compiled (`kernels`); this module prepares the arrays that they work on. The result for a text
depends on that text and its own sampling options only: every sum is computed in one order, whatever the rest of the
batch is and however many threads run.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.core.reproducible import available_cores
from pipeline.generation.drawing import RULE, log_probs
from pipeline.generation.kernels import aligned, pack, project, read, write
from pipeline.model.ngram import NO_TRIE
from pipeline.model.ngram_kernels import mix_rows
from pipeline.model.ngram_kernels import read as read_ngram
from pipeline.model.saved import SavedModel
from pipeline.params.sampling import Precision, Sampling

Floats = npt.NDArray[np.float32]
Tokens = npt.NDArray[np.integer[Any]] | Sequence[int]

# Positions of a prompt that one matrix product reads; bounds the memory that a long prompt takes.
READ_AT_ONCE = 512
# Fewer texts than this are not worth another thread.
ROWS_PER_THREAD = 8


@dataclass(frozen=True)
class State:
    """The model's state after a text. Never modified, so it can be shared.

    h and c are the network's, float32 [layers, hidden]; `ngram` that of the n-gram model's reader, int64 [order + 2].
    """

    h: Floats
    c: Floats
    ngram: npt.NDArray[np.int64]


@dataclass
class BatchRow:
    """One row of a batch: the state of a text and its sampling options. `Engine.write` advances it.

    `allowed` is bool [vocab]: which ids may be written. `bias`, float32 [vocab], is added to the logits; `counts` is
    int32 [vocab]: how often each id was written. `recent` is int32 [window]: the last ids, which the repetition penalty
    looks at; -1 where there is none.
    """

    state: State
    rule: npt.NDArray[np.void]
    allowed: npt.NDArray[np.bool_]
    bias: Floats
    counts: npt.NDArray[np.int32]
    recent: npt.NDArray[np.int32]


@dataclass(frozen=True)
class WrittenIds:
    """The ids written to one row, int32 [steps], and the natural logarithm of each one's probability, float32 [steps].

    The probabilities are the model's own, before any sampling option. `predictions` are the log-probabilities of all
    ids, float32 [steps, vocab], None unless requested.
    """

    ids: npt.NDArray[np.int32]
    log_probs: Floats
    predictions: Floats | None


def rule_of(sampling: Sampling) -> npt.NDArray[np.void]:
    """Return `sampling` as the kernels read it, RULE [1], for a text that has nothing written yet."""
    rule = np.zeros(1, dtype=RULE)
    for name in RULE.names or ():
        rule[name] = 0 if name == "position" else getattr(sampling, name)
    return rule


class Engine:
    """Runs a network over ids. Holds only weights, so one engine serves any number of texts at once.

    `threads` (0: all cores) share a batch of texts; each text is written by one thread. `precision` is the precision of
    the matrices: with bf16 they are rounded once, sums stay float32, and half the bytes are read per character.
    """

    def __init__(self, model: SavedModel, *, threads: int = 0, precision: Precision = "fp32") -> None:
        self.config = model.config
        self.vocab_size = model.config.vocab_size
        self.threads = threads or available_cores()
        self._weights = pack(model, precision)
        # None: the kernels are compiled without an n-gram model
        self._trie = None if model.ngram is None else model.ngram.trie
        # Multiply-adds per character
        self.products = sum(value.size for value in (self._weights.inputs, self._weights.hidden, self._weights.output))
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="engine")
        self._writable = np.arange(self.vocab_size) >= model.dictionary.first_id
        if model.dictionary.end is not None:
            self._writable[model.dictionary.end] = True
        zeros = np.zeros((model.config.num_layers, model.config.num_hidden), dtype=np.float32)
        self._start = State(h=zeros, c=zeros, ngram=(self._trie or NO_TRIE).start())
        self._no_bias = np.zeros(self.vocab_size, dtype=np.float32)

    def start(self) -> State:
        """Return the start state: zeros."""
        return self._start

    def read(self, ids: Tokens, state: State | None = None) -> State:
        """Return the state after reading `ids` from `state` (default: the start state)."""
        return self._read(np.asarray(ids, dtype=np.int64), state or self._start)

    def score(self, ids: Tokens, state: State, *, predictions: Floats | None = None) -> tuple[Floats, State]:
        """Return the log-probability of each id, float32 [len(ids)], and the state after the last.

        Each id is predicted from the ids before it, the first from `state`. `predictions` float32 [len(ids), vocab], if
        given, is filled with the log-probabilities of all ids.
        """
        known = np.asarray(ids, dtype=np.int64)
        scores = np.empty(len(known), dtype=np.float32)
        after = self._read(known, state, scores, predictions)
        return scores, after

    def logits(self, state: State) -> Floats:
        """Return the logits of the next id, float32 [vocab]."""
        logits: Floats = self._logits_after(state)[0]
        return logits

    def predict(self, state: State) -> Floats:
        """Return the log-probabilities of the next id, float32 [vocab]."""
        logits = self._logits_after(state)
        log_probs(logits, self.vocab_size)
        predicted: Floats = logits[0]
        return predicted

    def row(
        self,
        state: State,
        sampling: Sampling,
        *,
        before: Tokens = (),
        allowed: npt.NDArray[np.bool_] | None = None,
        bias: Floats | None = None,
    ) -> BatchRow:
        """Return a row that continues from `state` with the options of `sampling`.

        `before` are the preceding ids, which the repetition penalty looks at; `allowed` bool [vocab] are the ids that
        may be written (None: all characters, and the end symbol); `bias` float32 [vocab] is added to the logits (None:
        nothing).
        """
        window = sampling.repetition_window if sampling.repetition_penalty != 1 else 0
        recent = np.full(window, -1, dtype=np.int32)
        if window and len(before):
            last = np.asarray(before[-window:], dtype=np.int32)
            recent[-len(last) :] = last
        return BatchRow(
            state=state,
            rule=rule_of(sampling),
            allowed=self._writable if allowed is None else allowed,
            bias=self._no_bias if bias is None else bias,
            counts=np.zeros(self.vocab_size, dtype=np.int32),
            recent=recent,
        )

    def write(self, rows: Sequence[BatchRow], steps: int, *, predictions: bool = False) -> list[WrittenIds]:
        """Continue each of `rows` by `steps` ids; the rows are advanced in place."""
        # Each block of rows is written by one thread.
        size = max(ROWS_PER_THREAD, -(-len(rows) // self.threads))
        blocks = [rows[at : at + size] for at in range(0, len(rows), size)]
        if len(blocks) == 1:
            return self._write(rows, steps, predictions)
        done = self._pool.map(lambda block: self._write(block, steps, predictions), blocks)
        return [written for block in done for written in block]

    def _write(self, rows: Sequence[BatchRow], steps: int, predictions: bool) -> list[WrittenIds]:
        count, vocab = len(rows), self.vocab_size
        # The rows' states and options as one array each: that is what the kernel reads and changes.
        before = max(len(row.recent) for row in rows)
        history = np.full((count, before + steps), -1, dtype=np.int32)
        h, c = (aligned((self.config.num_layers, count, self.config.num_hidden)) for _ in range(2))
        states = np.stack([row.state.ngram for row in rows])
        for at, row in enumerate(rows):
            history[at, before - len(row.recent) : before] = row.recent
            h[:, at], c[:, at] = row.state.h, row.state.c
        rules = np.concatenate([row.rule for row in rows])
        allowed = np.stack([row.allowed for row in rows])
        bias = np.stack([row.bias for row in rows])
        counts = np.stack([row.counts for row in rows])
        scores = np.empty((count, steps), dtype=np.float32)
        all_scores = np.empty((count if predictions else 0, steps, vocab), dtype=np.float32)
        write(self._weights, self._trie, rules, allowed, bias, counts, history, h, c, states, scores, all_scores)
        # The rows keep views of these arrays, so nothing is copied back.
        for at, row in enumerate(rows):
            row.state = State(h=h[:, at], c=c[:, at], ngram=states[at])
            row.rule = rules[at : at + 1]
            row.counts = counts[at]
            row.recent = history[at, history.shape[1] - len(row.recent) :]
        return [
            WrittenIds(
                ids=history[at, before:], log_probs=scores[at], predictions=all_scores[at] if predictions else None
            )
            for at in range(count)
        ]

    def _read(
        self,
        ids: npt.NDArray[np.int64],
        state: State,
        scores: Floats | None = None,
        predictions: Floats | None = None,
    ) -> State:
        """Return the state after `ids`; fills `scores` and `predictions`, if given, as described in `score`."""
        h, c = aligned(state.h.shape), aligned(state.c.shape)
        h[:], c[:] = state.h, state.c
        last, states = h[-1:].copy(), state.ngram.copy()
        for start in range(0, len(ids), READ_AT_ONCE):
            some = ids[start : start + READ_AT_ONCE]
            projected = aligned((len(some), self._weights.table.shape[1]))
            outputs = aligned((len(some), h.shape[1]))
            read(self._weights, some, h, c, projected, outputs)
            if scores is None:
                if self._trie is not None:
                    read_ngram(self._trie, some, states)
            else:
                # Each id is predicted by the hidden state before it.
                before = np.concatenate([last, outputs[:-1]])
                logits = self._logits(before, some, states)
                log_probs(logits, self.vocab_size)
                scores[start : start + len(some)] = logits[np.arange(len(some)), some]
                if predictions is not None:
                    predictions[start : start + len(some)] = logits
            last = outputs[-1:]
        return State(h=h, c=c, ngram=states)

    def _logits_after(self, state: State) -> Floats:
        """Return the logits of the next id, float32 [1, vocab]."""
        any_id = np.zeros(1, dtype=np.int64)  # advances the copy, which is not used
        return self._logits(state.h[-1:], any_id, state.ngram.copy())

    def _logits(self, outputs: Floats, ids: npt.NDArray[np.int64], states: npt.NDArray[np.int64]) -> Floats:
        """Return the logits after each of `outputs`, float32 [time, vocab].

        `states` of the n-gram model's reader are advanced by `ids`, int64 [time], the ids that follow.
        """
        logits = aligned((len(outputs), len(self._weights.output_bias)))
        project(self._weights, np.ascontiguousarray(outputs), logits)
        logits = np.ascontiguousarray(logits[:, : self.vocab_size])
        if self._trie is not None:
            mix_rows(self._trie, ids, states, logits)
        return logits

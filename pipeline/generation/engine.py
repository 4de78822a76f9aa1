"""The engine: ids in, logits out, one character at a time. Knows nothing of text, and needs no torch.

At load the embedding is folded into a table: row i is the first layer's input projection of id i with both biases, so
that a step of the first layer is one lookup and one matrix-vector product.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.model.saved import SavedModel

Vector = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float32]

# Per layer: h and c, each float32 [hidden]; c is used by the LSTM only.
State = tuple[tuple[Vector, Vector], ...]
Cell = Callable[[Vector, Vector, Vector, "Layer"], tuple[Vector, Vector]]


@dataclass(frozen=True)
class Layer:
    """One layer: `inputs` [rows, in] (None for the first, which has the table), `hidden` [rows, h], biases."""

    inputs: Matrix | None
    hidden: Matrix
    bias: Vector
    hidden_bias: Vector


class Engine:
    """Steps a network over ids; holds weights only, so one engine serves any number of texts at once."""

    def __init__(self, model: SavedModel) -> None:
        weights, config = model.weights, model.config
        self.first_id = model.dictionary.first_id
        self.vocab_size = config.vocab_size
        self._cell = CELLS[config.cell]
        self._layers = []
        for number in range(config.num_layers):
            own = {
                kind: weights[f"layers.{number}.{kind}_l0"] for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            }
            # A GRU scales its hidden part of the candidate by the reset gate, so its hidden biases stay apart.
            apart = own["bias_hh"] if config.cell == "gru" else np.zeros_like(own["bias_hh"])
            bias = own["bias_ih"] + (own["bias_hh"] - apart)
            self._layers.append(
                Layer(
                    inputs=own["weight_ih"] if number else None,
                    hidden=own["weight_hh"],
                    bias=bias,
                    hidden_bias=apart,
                )
            )
        self._table: Matrix = weights["embedding.weight"] @ weights["layers.0.weight_ih_l0"].T + self._layers[0].bias
        self._output: Matrix = weights["output.weight"]
        self._output_bias: Vector = weights["output.bias"]
        self._zero = np.zeros(config.num_hidden, dtype=np.float32)

    def start(self) -> State:
        """Return the start state: zeros."""
        return tuple((self._zero, self._zero) for _ in self._layers)

    def step(self, token: int, state: State) -> State:
        """Return the state after reading one id."""
        after = []
        hidden = self._zero
        for layer, (h, c) in zip(self._layers, state, strict=True):
            projected = self._table[token] if layer.inputs is None else layer.inputs @ hidden + layer.bias
            hidden, memory = self._cell(projected, h, c, layer)
            after.append((hidden, memory))
        return tuple(after)

    def read(self, ids: Sequence[int], state: State | None = None) -> State:
        """Return the state after reading `ids` from `state` (default: the start state)."""
        state = self.start() if state is None else state
        for token in ids:
            state = self.step(int(token), state)
        return state

    def logits(self, state: State) -> Vector:
        """Return the logits of the next id, float32 [vocab]."""
        logits: Vector = self._output @ state[-1][0] + self._output_bias
        return logits


def _sigmoid(x: Vector) -> Vector:
    # The tanh form needs no case for large |x|.
    half = np.float32(0.5)
    value: Vector = half * (np.tanh(half * x) + np.float32(1))
    return value


def _lstm(projected: Vector, h: Vector, c: Vector, layer: Layer) -> tuple[Vector, Vector]:
    size = len(h)
    gates = projected + layer.hidden @ h
    keep = _sigmoid(gates[: 2 * size])
    c = keep[size:] * c + keep[:size] * np.tanh(gates[2 * size : 3 * size])
    return _sigmoid(gates[3 * size :]) * np.tanh(c), c


def _gru(projected: Vector, h: Vector, c: Vector, layer: Layer) -> tuple[Vector, Vector]:
    size = len(h)
    hidden = layer.hidden @ h + layer.hidden_bias
    gates = _sigmoid(projected[: 2 * size] + hidden[: 2 * size])
    candidate = np.tanh(projected[2 * size :] + gates[:size] * hidden[2 * size :])
    return candidate + gates[size:] * (h - candidate), c


def _rnn(projected: Vector, h: Vector, c: Vector, layer: Layer) -> tuple[Vector, Vector]:
    return np.tanh(projected + layer.hidden @ h), c


CELLS: dict[str, Cell] = {"lstm": _lstm, "gru": _gru, "rnn": _rnn}

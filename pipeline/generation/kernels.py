"""The network in compiled code: its weights as the loops read them, and the loops that read and write ids.

The embedding is folded into a table, and the matrices are cut into aligned tiles. Only `update` differs between LSTM,
GRU and RNN.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba.extending import overload

from pipeline.core.kernel_cache import HELPER_OPTIONS, kernel, kernel_helper
from pipeline.generation.arithmetic import COLUMNS, accumulate, sigmoid, tanh
from pipeline.generation.drawing import choose, log_normaliser, uniform
from pipeline.model.ngram_kernels import advance, mix
from pipeline.model.saved import SavedModel
from pipeline.params.sampling import Precision

Array = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float32] | npt.NDArray[np.uint16]

# Bytes of a cache line and of the widest vector register: aligned rows take half the memory accesses.
ALIGNMENT = 64


class Packed(NamedTuple):
    """The weights, float32; the matrices may be bfloat16 (stored as uint16).

    `width` is the number of gate values (4, 3 or 1 times hidden), rounded up to whole tiles and padded with zeros.

    table [vocab, width]                      the first layer's input projection of each id, its bias included
    inputs [layers - 1, tiles, hidden, tile]  the other layers' input weights, transposed and cut into tiles
    bias [layers - 1, width]                  their input biases
    hidden [layers, tiles, hidden, tile]      the recurrent weights
    hidden_bias [layers, width]               the recurrent biases
    output [tiles, hidden, tile]              the output's weights
    output_bias [vocab, rounded up]
    """

    table: Array
    inputs: Matrix
    bias: Array
    hidden: Matrix
    hidden_bias: Array
    output: Matrix
    output_bias: Array


class LstmWeights(Packed):
    """The weights of LSTM layers."""


class GruWeights(Packed):
    """The weights of GRU layers."""


class RnnWeights(Packed):
    """The weights of plain tanh RNN layers."""


WEIGHTS: dict[str, type[Packed]] = {"lstm": LstmWeights, "gru": GruWeights, "rnn": RnnWeights}


def pack(model: SavedModel, precision: Precision) -> Packed:
    """Return the weights of `model` as the kernels read them, the matrices in `precision`."""
    weights, config = model.weights, model.config
    layers = [
        {kind: weights[f"layers.{number}.{kind}_l0"] for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
        for number in range(config.num_layers)
    ]
    table = weights["embedding.weight"] @ layers[0]["weight_ih"].T + layers[0]["bias_ih"]
    gates, hidden = layers[0]["weight_hh"].shape
    return WEIGHTS[config.cell](
        table=_padded(table),
        inputs=_in_precision(
            _stack([_tiles(layer["weight_ih"].T) for layer in layers[1:]], _tiles_shape(hidden, gates)), precision
        ),
        bias=_stack([_padded(layer["bias_ih"][None])[0] for layer in layers[1:]], (rounded_up(gates),)),
        hidden=_in_precision(
            _stack([_tiles(layer["weight_hh"].T) for layer in layers], _tiles_shape(hidden, gates)), precision
        ),
        hidden_bias=_padded(np.stack([layer["bias_hh"] for layer in layers])),
        output=_in_precision(_tiles(weights["output.weight"].T), precision),
        output_bias=_padded(weights["output.bias"][None])[0],
    )


def rounded_up(columns: int) -> int:
    """Return `columns` rounded up to a multiple of a tile's width."""
    return -(-columns // COLUMNS) * COLUMNS


def _in_precision(matrix: Array, precision: Precision) -> Matrix:
    """Return `matrix`, for bf16 rounded to the nearest bfloat16 (ties to even): the upper halves of float32."""
    if precision == "fp32":
        return matrix
    whole = matrix.view(np.uint32)
    rounded = (whole + (((whole >> 16) & 1) + 0x7FFF)) >> 16
    halves = aligned((*matrix.shape[:-1], matrix.shape[-1] // 2)).view(np.uint16)
    halves[:] = rounded
    return halves


def aligned(shape: tuple[int, ...]) -> Array:
    """Return zeros, float32, whose first byte is at the start of a cache line."""
    count = int(np.prod(shape))
    buffer = np.zeros(count * 4 + ALIGNMENT, dtype=np.uint8)
    start = -buffer.ctypes.data % ALIGNMENT
    return buffer[start : start + count * 4].view(np.float32).reshape(shape)


def _padded(matrix: Array) -> Array:
    whole = aligned((len(matrix), rounded_up(matrix.shape[1])))
    whole[:, : matrix.shape[1]] = matrix
    return whole


def _tiles_shape(rows: int, columns: int) -> tuple[int, int, int]:
    return rounded_up(columns) // COLUMNS, rows, COLUMNS


def _tiles(matrix: Array) -> Array:
    """Return `matrix` [k, columns] as [tiles, k, COLUMNS]."""
    whole = aligned(_tiles_shape(*matrix.shape))
    whole[:] = _padded(matrix).reshape(len(matrix), -1, COLUMNS).transpose(1, 0, 2)
    return whole


def _stack(arrays: list[Array], shape: tuple[int, ...]) -> Array:
    whole = aligned((len(arrays), *shape))
    for number, array in enumerate(arrays):
        whole[number] = array
    return whole


def update(weights, projected, recurrent, h, c):
    """Set h and c, float32 [rows, hidden], from the two summands of the gates, float32 [rows, gates].

    `projected` is the input's summand, `recurrent` the previous state's. Only the LSTM uses c. Compiled code calls the
    implementation for its kind of weights (`_update`); Python cannot call this function.
    """
    raise NotImplementedError


@overload(update, jit_options=HELPER_OPTIONS, strict=False)
def _update(weights, projected, recurrent, h, c):
    return {LstmWeights: _lstm, GruWeights: _gru, RnnWeights: _rnn}[weights.instance_class]


def _lstm(weights, projected, recurrent, h, c):
    # PyTorch's order of gates: input, forget, cell, output
    size = h.shape[1]
    for row in range(len(h)):
        p, r, own_h, own_c = projected[row], recurrent[row], h[row], c[row]
        for j in range(size):
            enter = sigmoid(p[j] + r[j])
            keep = sigmoid(p[size + j] + r[size + j])
            candidate = tanh(p[2 * size + j] + r[2 * size + j])
            show = sigmoid(p[3 * size + j] + r[3 * size + j])
            value = keep * own_c[j] + enter * candidate
            own_c[j] = value
            own_h[j] = show * tanh(value)


def _gru(weights, projected, recurrent, h, c):
    # PyTorch's order of gates: reset, update, new
    size = h.shape[1]
    for row in range(len(h)):
        p, r, own_h = projected[row], recurrent[row], h[row]
        for j in range(size):
            reset = sigmoid(p[j] + r[j])
            keep = sigmoid(p[size + j] + r[size + j])
            candidate = tanh(p[2 * size + j] + reset * r[2 * size + j])
            own_h[j] = candidate + keep * (own_h[j] - candidate)


def _rnn(weights, projected, recurrent, h, c):
    for row in range(len(h)):
        p, r, own_h = projected[row], recurrent[row], h[row]
        for j in range(h.shape[1]):
            own_h[j] = tanh(p[j] + r[j])


@kernel_helper
def _copy(source, target):
    """Copy float32 [n]. The same as an assignment to a slice, whose error message takes seconds to compile."""
    for i in range(len(target)):
        target[i] = source[i]


@kernel
def read(weights, ids, h, c, projected, outputs):
    """Read ids, int64 [time], from the state h and c, float32 [layers, hidden], which is updated.

    `projected` float32 [time, width] is scratch; `outputs` float32 [time, hidden] is filled with the last layer's h
    after each id. Layer by layer, since a layer's input projection is then one matrix product over all ids.
    """
    recurrent = np.empty((1, projected.shape[1]), dtype=np.float32)
    for layer in range(len(h)):
        if layer:
            for at in range(len(ids)):
                _copy(weights.bias[layer - 1], projected[at])
            accumulate(projected, outputs, weights.inputs[layer - 1])
        else:
            for at in range(len(ids)):
                _copy(weights.table[ids[at]], projected[at])
        own_h, own_c = h[layer : layer + 1], c[layer : layer + 1]
        for at in range(len(ids)):
            _copy(weights.hidden_bias[layer], recurrent[0])
            accumulate(recurrent, own_h, weights.hidden[layer])
            update(weights, projected[at : at + 1], recurrent, own_h, own_c)
            _copy(own_h[0], outputs[at])


@kernel
def write(weights, trie, rules, allowed, bias, counts, history, h, c, states, log_probs, predictions):
    """Continue the texts of a batch by `steps` ids each: the number of columns of `log_probs`, float32 [rows, steps].

    `rules` is RULE [rows]; `allowed` bool, `bias` float32 and `counts` int32, [rows, vocab], are as in `choose`;
    `history` int32 [rows, before + steps] holds the last ids of each text (-1 for none) and is filled with the ids that
    are written; h and c, float32 [layers, rows, hidden], `states`, int64 [rows, longest + 1], of the readers of the
    n-gram model `trie` (None: there is none, and its code is left out), `counts` and the positions in `rules` are
    updated.
    `predictions` float32 [rows, steps, vocab] is filled with the log-probabilities of all ids, unless it has no rows.
    """
    layers, rows, _ = h.shape
    vocab = allowed.shape[1]
    steps = log_probs.shape[1]
    before = history.shape[1] - steps
    logits = np.empty((rows, len(weights.output_bias)), dtype=np.float32)
    projected = np.empty((rows, weights.table.shape[1]), dtype=np.float32)
    recurrent = np.empty((rows, weights.table.shape[1]), dtype=np.float32)
    scratch = np.empty((3, vocab), dtype=np.float32)
    own = scratch[2]
    keys = np.empty(vocab, dtype=np.int64)
    probs = np.empty(vocab, dtype=np.float64)
    for step in range(steps):
        # The logits of the next id, from the last layer's h.
        for row in range(rows):
            _copy(weights.output_bias, logits[row])
        accumulate(logits, h[layers - 1], weights.output)
        for row in range(rows):
            line = logits[row, :vocab]
            _copy(line, own)  # `choose` modifies the logits, but log_probs are the model's own
            if trie is not None:
                mix(trie, states[row], 1.0, own, probs)
                if rules[row].ngram_weight == 1.0:
                    _copy(own, line)
                else:
                    mix(trie, states[row], rules[row].ngram_weight, line, probs)
            normaliser = log_normaliser(own, scratch[0])
            if len(predictions):
                for i in range(vocab):
                    predictions[row, step, i] = np.float32(own[i] - normaliser)
            number = uniform(rules[row].seed, rules[row].position)
            recent = history[row, : before + step]
            token = choose(line, allowed[row], bias[row], counts[row], recent, rules[row], number, scratch, keys)
            log_probs[row, step] = own[token] - normaliser
            history[row, before + step] = token
            counts[row, token] += 1
            rules[row].position += 1
            _copy(weights.table[token], projected[row])
            if trie is not None:
                advance(trie, states[row], token)
        # The state after the id that was chosen.
        for layer in range(layers):
            if layer:
                for row in range(rows):
                    _copy(weights.bias[layer - 1], projected[row])
                accumulate(projected, h[layer - 1], weights.inputs[layer - 1])
            for row in range(rows):
                _copy(weights.hidden_bias[layer], recurrent[row])
            accumulate(recurrent, h[layer], weights.hidden[layer])
            update(weights, projected, recurrent, h[layer], c[layer])


@kernel
def project(weights, outputs, logits):
    """Set `logits`, float32 [rows, width], to those of the hidden states `outputs`, float32 [rows, hidden]."""
    for row in range(len(outputs)):
        _copy(weights.output_bias, logits[row])
    accumulate(logits, outputs, weights.output)

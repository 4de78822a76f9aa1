"""Arranges a network's weights for the kernels: the embedding folded into a table, matrices cut into aligned tiles."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.generation.kernels.arithmetic import COLUMNS
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

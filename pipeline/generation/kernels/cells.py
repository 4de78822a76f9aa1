"""The cells' element-wise parts. The class of the packed weights says which is meant, so each is compiled on demand."""

from numba.extending import overload

from pipeline.compiling import OPTIONS
from pipeline.generation.kernels.arithmetic import sigmoid, tanh
from pipeline.generation.kernels.packing import GruWeights, LstmWeights, RnnWeights


def update(weights, projected, recurrent, h, c):
    """Set h and c float32 [rows, hidden] from the gates' two sides, float32 [rows, gates]; compiled code only.

    `projected` is the input's side, `recurrent` the last state's. Only the LSTM uses c.
    """
    raise NotImplementedError


@overload(update, jit_options=OPTIONS, strict=False)
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

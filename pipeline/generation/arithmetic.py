"""Arithmetic of the kernels: exp, sigmoid and tanh without branches, and the product of rows with a tiled matrix."""

from itertools import product
from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from pipeline.core.kernel_cache import kernel_helper

HALF, ONE, TWO = (np.float32(value) for value in (0.5, 1, 2))
# Below and above these float32's exp is 0 and infinity.
LOWEST, HIGHEST = np.float32(-87.3), np.float32(88.3)
LOG2E = np.float32(1.44269504088896341)
# log(2) as the sum of two numbers, the first exact in few bits, and the polynomial of Cephes' expf (Moshier). The error
# is 1 to 2 ulp.
LN2_HIGH, LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
P0, P1, P2, P3, P4, P5 = (
    np.float32(value)
    for value in (
        1.9875691500e-4,
        1.3981999507e-3,
        8.3334519073e-3,
        4.1665795894e-2,
        1.6666665459e-1,
        5.0000001201e-1,
    )
)


@intrinsic
def bits(typing_context, number):
    """Return the bits of a float32 as an int32."""
    return types.int32(types.float32), _bitcast


@intrinsic
def from_bits(typing_context, number):
    """Return the float32 that has these bits, an int32."""
    return types.float32(types.int32), _bitcast


def _bitcast(context, builder, signature, arguments):
    return builder.bitcast(arguments[0], context.get_value_type(signature.return_type))


@kernel_helper
def exp32(x):
    """Return e to the power of x, a float32; the result is clamped to float32's range."""
    x = min(max(x, LOWEST), HIGHEST)
    n = np.floor(x * LOG2E + HALF)
    r = x - n * LN2_HIGH - n * LN2_LOW
    p = ((((P0 * r + P1) * r + P2) * r + P3) * r + P4) * r + P5
    power = (np.int32(n) + np.int32(127)) << np.int32(23)
    return (p * r * r + r + ONE) * from_bits(power)


@kernel_helper
def sigmoid(x):
    """Return 1 / (1 + exp(-x))."""
    return ONE / (ONE + exp32(-x))


@kernel_helper
def tanh(x):
    """Return the hyperbolic tangent; the absolute error is about 1e-7."""
    return ONE - TWO / (exp32(TWO * x) + ONE)


# Several sums at once hide the latency of a multiply-add. A vector of LANES is one register of 512 bits, or two of 256.
LANES = 16
VECTORS = 2 if llvmlite.binding.get_host_cpu_features().get("avx512f") else 1
COLUMNS = VECTORS * LANES
ROWS = 4
TILES = 4

_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_INT = ir.IntType(32)
_HALVES, _WHOLES = ir.VectorType(ir.IntType(16), LANES), ir.VectorType(_INT, LANES)


def _adder(rows: int, tiles: int) -> Any:
    """Return compiled code for `out[row : row + rows] += x[row : row + rows] @ weights[tile : tile + tiles]`.

    All arrays are contiguous: out [rows, columns] and x [rows, k] are float32; weights [tiles, k, COLUMNS] are float32
    or bfloat16 (uint16, the upper halves of float32). Bounds are not checked.
    """

    @intrinsic
    def add(typing_context: Any, out: Any, x: Any, weights: Any, row: Any, tile: Any) -> Any:
        del typing_context

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            sums_of, values, matrix = (
                context.make_array(kind)(context, builder, value)
                for kind, value in zip(signature.args[:3], arguments[:3], strict=True)
            )
            first_row, first_tile = arguments[3:]
            width = builder.extract_value(sums_of.shape, 1)
            depth = builder.extract_value(values.shape, 1)

            def number(value: int) -> Any:
                return ir.Constant(first_row.type, value)

            def vector_at(array: Any, position: Any) -> Any:
                return builder.bitcast(builder.gep(array.data, [position]), _VECTOR.as_pointer())

            def weights_at(position: Any) -> Any:
                if weights.dtype != types.uint16:
                    return builder.load(vector_at(matrix, position), align=4)
                halves = builder.bitcast(builder.gep(matrix.data, [position]), _HALVES.as_pointer())
                wide = builder.zext(builder.load(halves, align=2), _WHOLES)
                return builder.bitcast(builder.shl(wide, ir.Constant(_WHOLES, [16] * LANES)), _VECTOR)

            lines = [builder.add(first_row, number(at)) for at in range(rows)]
            blocks = [builder.add(first_tile, number(at)) for at in range(tiles)]
            places = {
                (line, block, vector): vector_at(
                    sums_of,
                    builder.add(
                        builder.mul(lines[line], width),
                        builder.add(builder.mul(blocks[block], number(COLUMNS)), number(vector * LANES)),
                    ),
                )
                for line, block, vector in product(range(rows), range(tiles), range(VECTORS))
            }
            # Load the sums; LLVM keeps these stack slots in registers.
            sums = {}
            for at, place in places.items():
                sums[at] = cgutils.alloca_once(builder, _VECTOR)
                builder.store(builder.load(place, align=4), sums[at])
            with cgutils.for_range(builder, depth) as loop:
                # Each row's value of this k, in all lanes of a vector.
                spread = []
                for line in lines:
                    value = builder.load(builder.gep(values.data, [builder.add(builder.mul(line, depth), loop.index)]))
                    undefined = ir.Constant(_VECTOR, ir.Undefined)
                    single = builder.insert_element(undefined, value, ir.Constant(_INT, 0))
                    everywhere = ir.Constant(_WHOLES, [0] * LANES)
                    spread.append(builder.shuffle_vector(single, undefined, everywhere))
                # A vector of weights is loaded once and used for all rows.
                for block, vector in product(range(tiles), range(VECTORS)):
                    start = builder.add(builder.mul(blocks[block], depth), loop.index)
                    start = builder.add(builder.mul(start, number(COLUMNS)), number(vector * LANES))
                    weight = weights_at(start)
                    for line in range(rows):
                        term = builder.fmul(spread[line], weight, flags=("contract",))
                        total = sums[line, block, vector]
                        builder.store(builder.fadd(builder.load(total), term, flags=("contract",)), total)
            for at, place in places.items():
                builder.store(builder.load(sums[at]), place, align=4)
            return context.get_dummy_value()

        return types.void(out, x, weights, types.intp, types.intp), generate

    return add


_rows_by_tile, _row_by_tiles, _row_by_tile = _adder(ROWS, 1), _adder(1, TILES), _adder(1, 1)


@kernel_helper
def accumulate(out, x, weights):
    """Add x [rows, k] @ weights [tiles, k, COLUMNS] to `out` [rows, tiles * COLUMNS]; see _adder for the dtypes."""
    rows, tiles = len(x), len(weights)
    whole = rows - rows % ROWS
    if whole:
        for tile in range(tiles):
            for row in range(0, whole, ROWS):
                _rows_by_tile(out, x, weights, row, tile)
    wide = tiles - tiles % TILES
    for row in range(whole, rows):
        for tile in range(0, wide, TILES):
            _row_by_tiles(out, x, weights, row, tile)
        for tile in range(wide, tiles):
            _row_by_tile(out, x, weights, row, tile)

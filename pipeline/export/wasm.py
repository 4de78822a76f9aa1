"""Compiles the page's inner loops to WebAssembly, with the compiler that numba brings (LLVM).

LLVM writes an object file, which is a module without exports; `assembled` adds these. The page supplies the memory.
All arrays are float32. Columns are computed in whole tiles and vectors, so each array may be read and written beyond
its end: `start` and `out` up to a tile, the others up to a vector.

    multiply(out, x, depth, matrix, start, tiles)      out = start + x @ matrix, which is cut into tiles of columns
    lstm, gru, rnn(h, c, projected, recurrent, size)   the cell, as in `pipeline/generation/kernels.py`
    exps(out, values, count, least, factor)            out = exp((values - least) * factor)
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir

# The number of columns that `x @ matrix` computes at once: eight sums in registers hide the latency of an addition.
TILE = 32
TRIPLE = "wasm32-unknown-unknown"
LANES = 4  # of the other loops

INT, FLOAT, VOID = ir.IntType(32), ir.FloatType(), ir.VoidType()
POINTER = FLOAT.as_pointer()
# Numbers of a module's sections: https://webassembly.github.io/spec/core/binary/modules.html
CUSTOM, EXPORT, CODE = 0, 7, 10

Value = Any


@cache
def assembled() -> bytes:
    """Return the WebAssembly module. It imports a memory, env.__linear_memory, and exports the functions above."""
    module = ir.Module()
    module.triple = TRIPLE
    names = [_multiply(module)]
    names += [_cell(module, name, cell) for name, cell in {"lstm": _lstm, "gru": _gru, "rnn": _rnn}.items()]
    names.append(_exps(module))
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    machine = llvm.Target.from_triple(TRIPLE).create_target_machine(features="+simd128", opt=3, reloc="static")
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    builder.getModulePassManager().run(parsed, builder)
    return _with_exports(machine.emit_object(parsed), names)


def _with_exports(compiled: bytes, names: list[str]) -> bytes:
    """Return the object file as a module that exports its functions, which are in the order of `names`."""
    exports = b"".join(_text(name) + bytes([0]) + _leb(at) for at, name in enumerate(names))
    section = _leb(len(names)) + exports
    whole, at = compiled[:8], 8
    while at < len(compiled):
        kind, (size, start) = compiled[at], _read_leb(compiled, at + 1)
        if kind == CODE:
            whole += bytes([EXPORT]) + _leb(len(section)) + section
        if kind != CUSTOM:  # what only a linker needs
            whole += compiled[at : start + size]
        at = start + size
    return whole


def _leb(number: int) -> bytes:
    """Return `number` in the variable-length code of WebAssembly (LEB128)."""
    low = number & 127
    return bytes([low]) if number < 128 else bytes([low | 128]) + _leb(number >> 7)


def _read_leb(data: bytes, at: int) -> tuple[int, int]:
    """Return the number that begins at `at`, and the position after it."""
    number, shift = 0, 0
    while True:
        number |= (data[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 128:
            return number, at


def _text(name: str) -> bytes:
    return _leb(len(name)) + name.encode()


def _vector(lanes: int = LANES, kind: Any = FLOAT) -> Any:
    return ir.VectorType(kind, lanes)


def _splat(builder: ir.IRBuilder, value: Value, lanes: int = LANES) -> Value:
    """Return a vector that has `value` in each lane."""
    kind = _vector(lanes, value.type)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), value, INT(0))
    return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), ir.Constant(_vector(lanes, INT), [0] * lanes))


def _all(number: float, lanes: int = LANES) -> Value:
    return ir.Constant(_vector(lanes), [number] * lanes)


def _load(builder: ir.IRBuilder, pointer: Value, at: Value, kind: Any) -> Value:
    """Return what is at element `at` of the array `pointer`, as `kind`."""
    return builder.load(builder.bitcast(builder.gep(pointer, [at]), kind.as_pointer()), align=4)


def _store(builder: ir.IRBuilder, value: Value, pointer: Value, at: Value) -> None:
    builder.store(value, builder.bitcast(builder.gep(pointer, [at]), value.type.as_pointer()), align=4)


@contextmanager
def _loop(builder: ir.IRBuilder, count: Value, step: int = 1) -> Iterator[Value]:
    """Yield 0, `step`, 2 * `step`, … below `count`."""
    before = builder.block
    head, body, after = (builder.append_basic_block() for _ in range(3))
    builder.branch(head)
    builder.position_at_end(head)
    at = builder.phi(INT)
    at.add_incoming(INT(0), before)
    builder.cbranch(builder.icmp_signed("<", at, count), body, after)
    builder.position_at_end(body)
    yield at
    at.add_incoming(builder.add(at, INT(step)), builder.block)
    builder.branch(head)
    builder.position_at_end(after)


def _function(module: ir.Module, name: str, kinds: list[Any]) -> tuple[ir.IRBuilder, Any]:
    function = ir.Function(module, ir.FunctionType(VOID, kinds), name)
    return ir.IRBuilder(function.append_basic_block()), function.args


def _multiply(module: ir.Module) -> str:
    """Add the function that multiplies a row with a matrix [tiles, depth, TILE]."""
    builder, arguments = _function(module, "multiply", [POINTER, POINTER, INT, POINTER, POINTER, INT])
    out, x, depth, matrix, start, tiles = arguments
    sums = [builder.alloca(_vector()) for _ in range(TILE // LANES)]  # LLVM keeps them in registers
    with _loop(builder, tiles) as tile:
        column = builder.mul(tile, INT(TILE))
        places = [builder.add(column, INT(LANES * number)) for number in range(len(sums))]
        for total, at in zip(sums, places, strict=True):
            builder.store(_load(builder, start, at, _vector()), total)
        first = builder.mul(tile, depth)
        with _loop(builder, depth) as k:
            value = _splat(builder, _load(builder, x, k, FLOAT))
            row = builder.mul(builder.add(first, k), INT(TILE))
            for number, total in enumerate(sums):
                weights = _load(builder, matrix, builder.add(row, INT(LANES * number)), _vector())
                builder.store(builder.fadd(builder.load(total), builder.fmul(value, weights)), total)
        for total, at in zip(sums, places, strict=True):
            _store(builder, builder.load(total), out, at)
    builder.ret_void()
    return "multiply"


def _cell(module: ir.Module, name: str, update: Callable[..., None]) -> str:
    """Add the function that sets h and c from the two summands of the gates."""
    builder, (h, c, projected, recurrent, size) = _function(module, name, [POINTER] * 4 + [INT])
    with _loop(builder, size, LANES) as j:

        def gate(array: Value, number: int) -> Value:
            return _load(builder, array, builder.add(j, builder.mul(size, INT(number))), _vector())

        update(builder, h, c, j, lambda number: gate(projected, number), lambda number: gate(recurrent, number))
    builder.ret_void()
    return name


def _lstm(
    builder: ir.IRBuilder, h: Value, c: Value, j: Value, p: Callable[..., Value], r: Callable[..., Value]
) -> None:
    enter, keep, candidate, show = (builder.fadd(p(number), r(number)) for number in range(4))
    kept = builder.fmul(_sigmoid(builder, keep), _load(builder, c, j, _vector()))
    value = builder.fadd(kept, builder.fmul(_sigmoid(builder, enter), _tanh(builder, candidate)))
    _store(builder, value, c, j)
    _store(builder, builder.fmul(_sigmoid(builder, show), _tanh(builder, value)), h, j)


def _gru(builder: ir.IRBuilder, h: Value, c: Value, j: Value, p: Callable[..., Value], r: Callable[..., Value]) -> None:
    del c
    reset, keep = (_sigmoid(builder, builder.fadd(p(number), r(number))) for number in range(2))
    candidate = _tanh(builder, builder.fadd(p(2), builder.fmul(reset, r(2))))
    more = builder.fmul(keep, builder.fsub(_load(builder, h, j, _vector()), candidate))
    _store(builder, builder.fadd(candidate, more), h, j)


def _rnn(builder: ir.IRBuilder, h: Value, c: Value, j: Value, p: Callable[..., Value], r: Callable[..., Value]) -> None:
    del c
    _store(builder, _tanh(builder, builder.fadd(p(0), r(0))), h, j)


def _exps(module: ir.Module) -> str:
    builder, (out, values, count, least, factor) = _function(module, "exps", [POINTER, POINTER, INT, FLOAT, FLOAT])
    with _loop(builder, count, LANES) as at:
        shifted = builder.fsub(_load(builder, values, at, _vector()), _splat(builder, least))
        _store(builder, _exp(builder, builder.fmul(shifted, _splat(builder, factor))), out, at)
    builder.ret_void()
    return "exps"


# The same formulas as in `pipeline/generation/arithmetic.py`, four numbers at a time.
LOWEST, HIGHEST, LOG2E = -87.3, 88.3, 1.44269504088896341
LN2_HIGH, LN2_LOW = 0.693359375, -2.12194440e-4
POLYNOMIAL = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)


def _exp(builder: ir.IRBuilder, x: Value) -> Value:
    for bound, sign in ((LOWEST, ">"), (HIGHEST, "<")):
        x = builder.select(builder.fcmp_ordered(sign, x, _all(bound)), x, _all(bound))
    name = "llvm.floor.v4f32"
    floor = builder.module.globals.get(name) or ir.Function(
        builder.module, ir.FunctionType(_vector(), [_vector()]), name
    )
    n = builder.call(floor, [builder.fadd(builder.fmul(x, _all(LOG2E)), _all(0.5))])
    r = builder.fsub(builder.fsub(x, builder.fmul(n, _all(LN2_HIGH))), builder.fmul(n, _all(LN2_LOW)))
    p = _all(POLYNOMIAL[0])
    for coefficient in POLYNOMIAL[1:]:
        p = builder.fadd(builder.fmul(p, r), _all(coefficient))
    whole = _vector(LANES, INT)
    power = builder.add(builder.fptosi(n, whole), ir.Constant(whole, [127] * LANES))
    power = builder.bitcast(builder.shl(power, ir.Constant(whole, [23] * LANES)), _vector())
    squared = builder.fmul(builder.fmul(p, r), r)
    return builder.fmul(builder.fadd(builder.fadd(squared, r), _all(1.0)), power)


def _sigmoid(builder: ir.IRBuilder, x: Value) -> Value:
    return builder.fdiv(_all(1.0), builder.fadd(_all(1.0), _exp(builder, builder.fneg(x))))


def _tanh(builder: ir.IRBuilder, x: Value) -> Value:
    twice = _exp(builder, builder.fmul(_all(2.0), x))
    return builder.fsub(_all(1.0), builder.fdiv(_all(2.0), builder.fadd(twice, _all(1.0))))

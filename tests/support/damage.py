"""Damages files in every way that their format allows, and lists what a stage or command reads."""

import csv
import io
import json
import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load, save

# JSON values of every type, and some that are extreme.
VALUES = (None, True, -1, 0, 10**30, 1e308, "", "x" * 50, "\0", [], {}, [[]], {"a": {"b": []}}, [None], ["ab"])


def damages(name, content, seed):
    """Yield pairs of a description and the damaged bytes; `content` are the whole file's, `name` is its name."""
    chance = random.Random(f"{seed} {name}")
    size = len(content)
    cut = chance.randrange(size) if size else 0
    yield "missing", None
    yield "empty", b""
    yield "zeros", bytes(size)
    yield "a byte short", content[:-1]
    yield f"cut at {cut}", content[:cut]
    yield "longer", content + b"\0" * 8
    yield "random bytes", chance.randbytes(max(size, 16))
    at = chance.randrange(max(size - 4, 1))
    yield f"4 random bytes at {at}", content[:at] + chance.randbytes(4) + content[at + 4 :]
    yield from _BY_ENDING.get(name.rpartition(".")[2], _no_kind)(content, chance)


def _no_kind(content, chance):
    return iter(())


def _json(content, chance):
    yield "deeply nested", b"[" * 100_000
    yield "half a surrogate pair", b'{"a": "\\ud800"}'
    yield "5,000 digits", b'{"a": ' + b"9" * 5000 + b"}"
    for value in (None, 5, "text", [], {}, [1], {"a": 1}):
        yield f"only {value!r}", json.dumps(value).encode()
    try:
        places = list(_places(json.loads(content)))
    except ValueError:  # a cache: its hash, then JSON
        return
    for place in chance.sample(places, min(len(places), 12)):
        value = chance.choice([*VALUES, "\ud800"])
        yield f"{'.'.join(map(str, place))} is {value!r}", json.dumps(_with(json.loads(content), place, value)).encode()
    for place in chance.sample(places, min(len(places), 4)):
        yield f"without {'.'.join(map(str, place))}", json.dumps(_without(json.loads(content), place)).encode()


def _places(value, place=()):
    if place:
        yield place
    inner = value.items() if isinstance(value, dict) else enumerate(value[:5]) if isinstance(value, list) else ()
    for key, one in inner:
        yield from _places(one, (*place, key))


def _with(value, place, new):
    at = value
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = new
    return value


def _without(value, place):
    at = value
    for key in place[:-1]:
        at = at[key]
    del at[place[-1]]
    return value


def _npy(content, chance):
    array = np.load(io.BytesIO(content))
    for kind, other in (
        ("no rows", array[:0]),
        ("a number", np.array(1, dtype=array.dtype)),
        ("two dimensions", array.reshape(-1, 1)),
        ("float64", array.astype(np.float64)),
        ("int8", array.astype(np.int8)),
        ("text", array.astype("U4")),
        ("big-endian", array.astype(array.dtype.newbyteorder(">"))),
        ("structured", np.zeros(3, dtype=[("a", "i4")])),
        ("largest values", np.full_like(array, np.iinfo(array.dtype).max)),
        ("reversed", array[::-1]),
        ("repeated", np.repeat(array[:1], len(array), axis=0)),
        ("one row", array[:1]),
    ):
        yield kind, _bytes_of(lambda file, other=other: np.save(file, other))
    yield "objects", _bytes_of(lambda file: np.save(file, np.array([{}], dtype=object), allow_pickle=True))
    yield "an archive", _bytes_of(lambda file: np.savez(file, array))
    header = content.index(b"{")
    yield "a huge shape", content[:header] + content[header:].replace(b"(", b"(10000000000000", 1)
    yield "an odd header", content[:header] + b"(" * 60 + content[header + 60 :]


def _safetensors(content, chance):
    tensors = load(content)
    for name in chance.sample(sorted(tensors), min(len(tensors), 4)):
        own = tensors[name]
        for kind, other in (
            ("float64", own.astype(np.float64)),
            ("int8", own.astype(np.int8)),
            ("flat", own.reshape(-1)[:-1]),
            ("no rows", own[:0]),
            ("huge", np.full_like(own, np.finfo(own.dtype).max if own.dtype.kind == "f" else np.iinfo(own.dtype).max)),
            ("negated", (-own.astype(np.int64)).astype(own.dtype) if own.dtype.kind in "iu" else -own),
        ):
            yield f"{name}: {kind}", save(tensors | {name: np.ascontiguousarray(other)})
        if own.dtype.kind == "f":
            yield f"{name}: NaN", save(tensors | {name: np.full_like(own, np.nan)})
        yield f"without {name}", save({key: value for key, value in tensors.items() if key != name})
    yield "no tensors", save({})
    yield "a header of 2^63 bytes", (2**63).to_bytes(8, "little") + content[8:]


def _parquet(content, chance):
    table = pq.read_table(io.BytesIO(content))
    for name in table.column_names:
        yield f"without {name}", _table(table.drop_columns([name]))
        yield f"{name}: null", _table(_replaced(table, name, pa.nulls(len(table), table.schema.field(name).type)))
        yield f"{name}: lists", _table(_replaced(table, name, pa.array([[1]] * len(table))))
        yield f"{name}: bytes", _table(_replaced(table, name, pa.array([b"\xff"] * len(table))))
        yield f"{name}: text", _table(_replaced(table, name, pa.array(["x"] * len(table))))
    yield "no rows", _table(table.slice(0, 0))
    yield "no columns", _table(table.select([]))
    yield "rows twice", _table(pa.concat_tables([table, table]))
    yield "parts from 5", _table(_replaced(table, "part", pa.array([5] * len(table), pa.int32())))
    yield "never the last", _table(_replaced(table, "last", pa.array([False] * len(table))))


def _replaced(table, name, column):
    return table.set_column(table.schema.get_field_index(name), name, column)


def _table(table):
    return _bytes_of(lambda file: pq.write_table(table, file))


def _csv(content, chance):
    rows = list(csv.reader(io.StringIO(content.decode())))
    yield "only the header", content.partition(b"\n")[0] + b"\n"
    yield "no header", content.partition(b"\n")[2]
    yield "an open quote", content + b'"'
    yield "a NUL", content + b"\0,\0\n"
    for value in ("", "text", "nan", "-inf", "1e999", "9" * 5000):
        changed = [list(row) for row in rows]
        row = changed[chance.randrange(1, len(rows)) if len(rows) > 1 else 0]
        row[chance.randrange(len(row))] = value
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows(changed)
        yield f"a cell is {value[:9]!r}", out.getvalue().encode()
    yield "rows of other lengths", content + b"1\n1,2,3,4,5,6,7,8,9,10,11,12\n"


def _bytes_of(write):
    file = io.BytesIO()
    write(file)
    return file.getvalue()


_BY_ENDING = {"json": _json, "npy": _npy, "safetensors": _safetensors, "parquet": _parquet, "csv": _csv}

"""Arrays, samples and documents that are damaged or of a wrong kind are refused with one line."""

import json
from contextlib import suppress
from io import BytesIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.damage import damages
from support.tables import tables

from pipeline.core.errors import UserError
from pipeline.dataset.arrays import load_array
from pipeline.dataset.build_splits import build_splits
from pipeline.dataset.dictionary import Dictionary
from pipeline.dataset.splits import load_split
from pipeline.params.text import SplitParams
from pipeline.text.documents import BASE
from pipeline.text.shards import CHARS, read_batches, schema_in, text_bytes


@pytest.fixture
def split(tmp_path):
    (tmp_path / "split").mkdir()
    texts = [f"{number} documents of a text" * 3 for number in range(20)]
    build_splits(tables(*texts), tmp_path / "split", SplitParams(samples="documents", buckets=(20, 40)))
    return tmp_path / "split"


def test_any_damage_to_an_array_is_refused_or_leaves_an_array(tmp_path):
    file = BytesIO()
    np.save(file, np.arange(100, dtype=np.uint16))
    for seed in range(30):
        for kind, content in damages("ids.npy", file.getvalue(), seed):
            path = tmp_path / "ids.npy"
            path.unlink(missing_ok=True)
            if content is not None:
                path.write_bytes(content)
            with suppress(UserError):
                array = load_array(path)
                assert (array.ndim, array.dtype.kind) == (1, "u"), kind


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("ids.npy", lambda array: array[:0]),
        ("ids.npy", lambda array: np.where(np.arange(len(array)) == 5, 255, array).astype(np.uint8)),
        ("ids.npy", lambda array: array.astype(np.int64)),
        ("bucket_00040.npy", lambda array: array[:, 0]),
        ("bucket_00040.npy", lambda array: array - 1000),
        ("bucket_00040.npy", lambda array: array + 10**9),
        ("documents.npy", lambda array: array[::-1]),
        ("documents.npy", lambda array: array[:0]),
    ],
)
def test_ids_and_samples_out_of_range_are_refused(split, name, change):
    size = len(Dictionary.load(split / "dictionary.json"))
    assert load_split(split / "train", vocab_size=size).num_samples
    path = split / "train" / name
    np.save(path, change(np.load(path)))
    with pytest.raises(UserError, match=name):
        load_split(split / "train", vocab_size=size)


@pytest.mark.parametrize("buckets", [[], [-1], [0], [10**12], [40, 20], [20, 20], ["20"], [True], None, 20])
def test_odd_bucket_lengths_are_refused(split, buckets):
    (split / "train/samples.json").write_text(json.dumps({"samples": "stream", "buckets": buckets}))
    with pytest.raises(UserError, match=r"samples\.json"):
        load_split(split / "train")


ROWS = {"document": ["a"], "part": [0], "last": [True], "text": ["ab"], CHARS: [2]}
SCHEMA = pa.schema([*BASE, (CHARS, pa.int64())])


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("text", pa.array([b"\xff"])),
        ("text", pa.array(["ab"])),  # with 32-bit offsets
        ("text", None),
        ("part", pa.array([None], pa.int32())),
        ("last", pa.array(["yes"])),
        ("document", None),
        (CHARS, pa.array([2.0])),
    ],
)
def test_documents_with_other_columns_are_refused(tmp_path, column, values):
    path = tmp_path / "part-00000.parquet"
    table = pa.table(ROWS, SCHEMA)
    at = table.schema.get_field_index(column)
    pq.write_table(table, path)
    assert next(read_batches(tmp_path)).num_rows == 1
    pq.write_table(table.remove_column(at) if values is None else table.set_column(at, column, values), path)
    with pytest.raises(UserError, match=r"part-00000\.parquet: damaged"):
        text_bytes(tmp_path), schema_in(tmp_path), list(read_batches(tmp_path))


def test_text_that_is_not_utf8_is_refused(tmp_path):
    bad = pa.LargeStringArray.from_buffers(1, pa.py_buffer(np.array([0, 2], np.int64)), pa.py_buffer(b"\xff\xc3"))
    table = pa.table(ROWS, SCHEMA)
    pq.write_table(table.set_column(3, "text", bad), tmp_path / "part-00000.parquet")
    with pytest.raises(UserError, match=r"part-00000\.parquet: damaged"):
        list(read_batches(tmp_path))

"""A project in the state before the validate stage, for tests that corrupt it."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ruamel.yaml import YAML

from pipeline.core.errors import UserError
from pipeline.core.files import read_json, write_json
from pipeline.dataset.build_splits import build_splits
from pipeline.params.reader import read_group
from pipeline.params.text import SplitParams
from pipeline.text.documents import BASE
from stages import validate
from support.tables import tables

RANDOM = np.random.default_rng(5)
# No substring of 50 characters occurs twice.
TEXTS = ["".join(RANDOM.choice(list("abcdefgh ¤\n"), size)).strip() or "a" for size in RANDOM.integers(40, 160, 60)]
KINDS = {
    "stream": {"samples": "stream", "buckets": [20, 30]},
    "documents": {"samples": "documents", "buckets": [20, 70]},
    "lines": {"samples": "lines", "buckets": [20]},
    "three sides": {"train_fraction": 0.7, "test_fraction": 0.2, "buckets": [20]},
    "documents on three sides": {
        "samples": "documents",
        "by": "document",
        "train_fraction": 0.5,
        "test_fraction": 0.2,
        "buckets": [70],
    },
    "documents' names": {"by": "document", "train_fraction": 0.5, "buckets": [20]},
    "unknown characters": {"dictionary_from": "train", "train_fraction": 0.05, "buckets": [20]},
}


class Project:
    """The files that the stages before validate write, and methods to change them."""

    def __init__(self, folder, split):
        self.folder = folder
        self.params = {
            "split": split,
            "validate": {"data_docs": False},
            "train": {"batch_size": 4},
            "evaluate": {"window": 20},
        }
        for name in ("data/split", "data/clean", "reports", "metrics"):
            (folder / name).mkdir(parents=True)
        YAML(typ="safe").dump(self.params, folder / "params.yaml")
        build_splits(tables(*TEXTS, most=100), folder / "data/split", read_group("split", SplitParams))
        rows = pa.Table.from_batches(tables(*TEXTS, most=100)()).to_pylist()
        first = next(at for at in range(len(rows) // 2, len(rows)) if not rows[at]["part"])
        self.shards = [rows[:first], rows[first:]]

    def array(self, name):
        return np.load(self.folder / "data/split" / name)

    def put(self, name, array):
        np.save(self.folder / "data/split" / name, array)

    def dictionary(self, change):
        path = self.folder / "data/split/dictionary.json"
        content = read_json(path)
        write_json(path, content | {"characters": change(content["characters"])})

    def write(self):
        """Write the documents and params, which tests may have changed."""
        for number, rows in enumerate(self.shards):
            columns = {field.name: pa.array([row[field.name] for row in rows], field.type) for field in BASE}
            columns["chars"] = pa.array([len(row["text"] or "") for row in rows], pa.int64())
            pq.write_table(pa.table(columns), self.folder / f"data/clean/part-{number:05d}.parquet")
        YAML(typ="safe").dump(self.params, self.folder / "params.yaml")

    def failed(self):
        """Run the stage and return the names of the expectations that failed."""
        self.write()
        try:
            validate.main()
        except UserError as error:
            self.line = str(error)
        return [
            one["name"]
            for one in read_json(self.folder / "reports/validation.json")["expectations"]
            if not one["passed"]
        ]

    def outputs(self):
        files = ["data/validated.json", "reports/validation.json", "reports/alphabet.csv", "metrics/validate.json"]
        return {name: (self.folder / name).read_bytes() for name in files if (self.folder / name).exists()}

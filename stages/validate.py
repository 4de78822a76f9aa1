"""validate: what must hold of the data, or the pipeline stops here with one line."""

import shutil
from dataclasses import asdict
from pathlib import Path

import typer

from pipeline.corpus.contracts import Bounds, contracts
from pipeline.corpus.documents import read_rows
from pipeline.corpus.validation import check, told
from pipeline.dataset.dictionary import Dictionary
from pipeline.dataset.facts import bucket_facts, dictionary_facts, document_facts, split_facts
from pipeline.dataset.splits import load_split
from pipeline.errors import UserError
from pipeline.files import write_json
from pipeline.params.evaluate import EvaluateParams
from pipeline.params.reader import read_group
from pipeline.params.split import SplitParams
from pipeline.params.train import TrainParams
from pipeline.params.validate import ValidateParams
from pipeline.tracking.stage import stage

PASSED = Path("data/validated.json")
DATA_DOCS = Path("reports/data_docs")


def main() -> None:
    with stage("validate"):
        params = read_group("validate", ValidateParams)
        window = read_group("evaluate", EvaluateParams).window
        PASSED.unlink(missing_ok=True)
        dictionary = Dictionary.load(Path("data/split/dictionary.json"))
        splits = {name: load_split(Path("data/split") / name) for name in ("train", "eval")}
        fraction = read_group("split", SplitParams).train_fraction
        tables = {
            "documents": document_facts(read_rows(Path("data/clean.parquet"), ["document", "text"])),
            "dictionary": dictionary_facts(dictionary, splits),
            "splits": split_facts(splits, train_fraction=fraction, window=window),
            "buckets": bucket_facts(splits),
        }
        bounds = Bounds(
            dictionary_size=len(dictionary),
            batch_size=read_group("train", TrainParams).batch_size,
            window=window,
            max_overlap=params.max_overlap,
        )
        shutil.rmtree(DATA_DOCS, ignore_errors=True)
        outcomes = check(tables, contracts(bounds), data_docs=DATA_DOCS if params.data_docs else None)
        failed = [outcome.name for outcome in outcomes if not outcome.passed]
        write_json(
            Path("reports/validation.json"),
            {"passed": not failed, "expectations": [asdict(outcome) for outcome in outcomes]},
        )
        write_json(Path("metrics/validate.json"), {"expectations": len(outcomes), "failed": len(failed)})
        if line := told(outcomes):
            raise UserError(line)
        write_json(PASSED, {"passed": True})


if __name__ == "__main__":
    typer.run(main)

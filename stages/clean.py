"""clean: the documents with only the characters that stay, and what was changed and dropped."""

from pathlib import Path

import typer

from pipeline.corpus.cleaned import clean_documents, write_changes
from pipeline.corpus.cleaning import Changes
from pipeline.files import write_json
from pipeline.params.clean import CleanParams
from pipeline.params.reader import read_group
from pipeline.tracking.stage import stage


def main() -> None:
    with stage("clean"):
        params = read_group("clean", CleanParams)
        changes = Changes()
        figures = clean_documents(Path("data/documents.parquet"), Path("data/clean.parquet"), params, changes)
        write_changes(Path("reports/clean.csv"), changes, params)
        write_json(Path("metrics/clean.json"), figures)


if __name__ == "__main__":
    typer.run(main)

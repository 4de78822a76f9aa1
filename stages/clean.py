"""clean: the documents with only the characters that stay, and what was changed and dropped."""

from pathlib import Path

import typer

from pipeline.corpus.cleaned import clean_documents, figures, write_changes
from pipeline.files import whole_folder, write_json
from pipeline.params.clean import CleanParams
from pipeline.params.reader import read_group
from pipeline.tracking.stage import stage


def main() -> None:
    with stage("clean"):
        params = read_group("clean", CleanParams)
        with whole_folder(Path("data/clean")) as folder:
            done = clean_documents(Path("data/documents"), folder, params)
        write_changes(Path("reports/clean.csv"), done, params)
        write_json(Path("metrics/clean.json"), figures(done, params))


if __name__ == "__main__":
    typer.run(main)

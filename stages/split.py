"""split: the dictionary, and the text as ids: the first part trains, the rest evaluates."""

from pathlib import Path

import typer

from pipeline.corpus.documents import read_rows
from pipeline.dataset.building import build_splits
from pipeline.files import whole_folder, write_json
from pipeline.params.reader import read_group
from pipeline.params.split import SplitParams
from pipeline.tracking.stage import stage


def main() -> None:
    with stage("split"):
        params = read_group("split", SplitParams)
        with whole_folder(Path("data/split")) as folder:
            figures = build_splits(
                lambda: (row["text"] for row in read_rows(Path("data/clean.parquet"), ["text"])),
                folder,
                params,
            )
        write_json(Path("metrics/split.json"), figures)


if __name__ == "__main__":
    typer.run(main)

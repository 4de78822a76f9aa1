"""clean: normalises characters, drops empty and duplicate documents, and reports what it changed."""

from pathlib import Path

import typer

from pipeline.cleaning.clean_documents import clean_documents, figures, write_changes
from pipeline.core.files import whole_folder, write_json
from pipeline.params.reader import read_group
from pipeline.params.text import CleanParams
from pipeline.text.shards import text_bytes
from pipeline.tracking.progress import throughput
from pipeline.tracking.stage import stage


def main() -> None:
    with stage("clean"):
        params = read_group("clean", CleanParams)
        source = Path("data/documents")
        with throughput("clean", text_bytes(source)) as advance, whole_folder(Path("data/clean")) as folder:
            done = clean_documents(source, folder, params, progress=advance)
        write_changes(Path("reports/clean.csv"), done, params)
        write_json(Path("metrics/clean.json"), figures(done, params))


if __name__ == "__main__":
    typer.run(main)

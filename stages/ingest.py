"""ingest: the source's documents as one Parquet table."""

from pathlib import Path

import typer

from pipeline.corpus.documents import write_documents
from pipeline.corpus.reading import read_documents
from pipeline.files import read_json, write_json
from pipeline.params.data import DataParams
from pipeline.params.reader import read_group
from pipeline.tracking.project import project_root, state_folder
from pipeline.tracking.stage import stage


def main() -> None:
    with stage("ingest"):
        params = read_group("data", DataParams)
        documents = read_documents(
            params,
            root=project_root(),
            cache=state_folder() / "downloads",
            expected=read_json(Path("data/source.json")),
        )
        count, characters = write_documents(Path("data/documents.parquet"), documents)
        write_json(Path("metrics/ingest.json"), {"documents": count, "characters": characters})


if __name__ == "__main__":
    typer.run(main)

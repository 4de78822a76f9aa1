"""ingest: reads the source into a table of documents, one row each (several if a document is long)."""

import typer

from pipeline.core.errors import UserError
from pipeline.core.files import DOCUMENTS, SOURCE, metrics_of, read_json, whole_folder, write_json
from pipeline.params.reader import read_group
from pipeline.params.text import DataParams
from pipeline.sources.reading import open_documents
from pipeline.text.shards import shard_writer
from pipeline.tracking.progress import throughput
from pipeline.tracking.project import project_root, state_folder
from pipeline.tracking.stage import stage


def main() -> None:
    with stage("ingest"):
        params = read_group("data", DataParams)
        try:
            description = read_json(SOURCE)
            size = sum(file["bytes"] for file in description["files"]) if "files" in description else None
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(f"{SOURCE}: missing or damaged; `dvc repro` rebuilds it") from None
        with throughput("ingest", size) as advance, whole_folder(DOCUMENTS) as folder:
            documents = open_documents(
                params, root=project_root(), cache=state_folder() / "downloads", expected=description, progress=advance
            )
            with shard_writer(folder, documents.schema) as writer:
                for batch in documents:
                    writer.write(batch)
            if not writer.characters:
                raise UserError("data.source: holds no text; allowed is at least one character")
        figures = {"documents": writer.documents, "characters": writer.characters}
        if documents.table is not None:
            figures["rows_without_text"] = documents.table.rows_without_text
        write_json(metrics_of("ingest"), figures)


if __name__ == "__main__":
    typer.run(main)

"""clean: normalises characters, drops empty and duplicate documents, and reports what it changed."""

import typer

from pipeline.cleaning.clean_documents import clean_documents, figures, write_changes
from pipeline.core.files import CLEAN, CLEAN_CHANGES, DOCUMENTS, metrics_of, whole_folder, write_json
from pipeline.params.reader import read_group
from pipeline.params.text import CleanParams
from pipeline.text.shards import text_bytes
from pipeline.tracking.progress import throughput
from pipeline.tracking.stage import stage


def main() -> None:
    with stage("clean"):
        params = read_group("clean", CleanParams)
        with throughput("clean", text_bytes(DOCUMENTS)) as advance, whole_folder(CLEAN) as folder:
            done = clean_documents(DOCUMENTS, folder, params, progress=advance)
        write_changes(CLEAN_CHANGES, done, params)
        write_json(metrics_of("clean"), figures(done, params))


if __name__ == "__main__":
    typer.run(main)

"""split: builds the dictionary, encodes the text as ids, and divides it into train, eval and optionally test."""

from pathlib import Path

import typer

from pipeline.core.errors import UserError
from pipeline.core.files import whole_folder, write_json
from pipeline.params.reader import read_group
from pipeline.params.text import CleanParams, SplitParams
from pipeline.splitting.build_splits import build_splits
from pipeline.text.shards import read_batches, text_bytes
from pipeline.tracking.progress import throughput
from pipeline.tracking.stage import stage

# The text is read twice: its characters are counted, then encoded.
PASSES = 2


def main() -> None:
    with stage("split"):
        params = read_group("split", SplitParams)
        newlines = read_group("clean", CleanParams).keep_newlines
        if params.samples == "lines" and not newlines:
            raise UserError("split.samples: lines needs newlines; clean.keep_newlines is false, allowed is true")
        source = Path("data/clean")
        with throughput("split", text_bytes(source)) as advance, whole_folder(Path("data/split")) as folder:
            figures = build_splits(
                lambda columns: read_batches(source, columns),
                folder,
                params,
                separator="\n" if newlines else " ",
                progress=lambda size: advance(size // PASSES),
            )
        write_json(Path("metrics/split.json"), figures)


if __name__ == "__main__":
    typer.run(main)

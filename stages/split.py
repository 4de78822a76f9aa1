"""split: builds the dictionary, encodes the text as ids, and divides it into train, eval and optionally test."""

import typer

from pipeline.core.errors import UserError
from pipeline.core.files import CLEAN, SPLITS, metrics_of, whole_folder, write_json
from pipeline.dataset.build_splits import build_splits
from pipeline.params.reader import read_group
from pipeline.params.text import CleanParams, SplitParams
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
        with throughput("split", text_bytes(CLEAN)) as advance, whole_folder(SPLITS) as folder:
            figures = build_splits(
                lambda columns: read_batches(CLEAN, columns),
                folder,
                params,
                separator="\n" if newlines else " ",
                progress=lambda size: advance(size // PASSES),
            )
        write_json(metrics_of("split"), figures)


if __name__ == "__main__":
    typer.run(main)

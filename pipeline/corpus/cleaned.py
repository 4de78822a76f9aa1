"""The cleaned documents: a Parquet table whose texts, one after the other, are the stream that is split."""

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pipeline.corpus.cleaning import Changes, clean, make_table, separator
from pipeline.corpus.documents import Document, read_rows, write_documents
from pipeline.errors import UserError
from pipeline.files import whole_file
from pipeline.params.clean import CleanParams


def clean_documents(source: Path, target: Path, params: CleanParams, changes: Changes) -> dict[str, int]:
    """Clean the table `source` into `target`; returns the figures of it and adds to `changes`.

    Documents of which nothing stays are left out. Each text but the first begins with the separator, so that the texts
    joined are the stream. UserError if nothing at all stays.
    """
    figures = {"documents": 0, "empty_documents": 0, "characters_before": 0, "characters": 0}

    def documents() -> Iterator[Document]:
        table = make_table(params)
        for row in read_rows(source):
            text = clean(row["text"], params, table, changes)
            figures["characters_before"] += len(row["text"])
            if not text:
                figures["empty_documents"] += 1
                continue
            if figures["documents"]:
                text = separator(params) + text
            figures["documents"] += 1
            figures["characters"] += len(text)
            yield replace(Document(**row), text=text)

    try:
        write_documents(target, documents())
    except UserError:
        raise UserError(
            f"clean.charset: {params.charset} leaves nothing of {figures['characters_before']} characters; "
            "allowed are ascii and unicode"
        ) from None
    return figures | {
        "replaced": changes.replaced.total(),
        "dropped": changes.dropped.total(),
        "composed": changes.composed,
    }


def write_changes(path: Path, changes: Changes, params: CleanParams) -> None:
    """Write one row per character that was replaced or dropped, the most frequent first."""
    table = make_table(params)
    counts = changes.replaced + changes.dropped
    with whole_file(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["codepoint", "character", "became", "count"])
        for char, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
            shown = char if char.isprintable() else ""
            rows.writerow([f"U+{ord(char):04X}", shown, table[ord(char)], count])
